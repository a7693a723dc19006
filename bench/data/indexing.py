"""`bench data index`: the presence matrices of a data set, made ahead of the runs that need them."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench.data.base import SPLITS, open_data
from bench.data.presence import presence
from bench.progress import counting
from bench.workspace import Workspace


def index(name: str, root: Path, store: Path, processes: int | None = None) -> Iterator[str]:
    """Reads what is not indexed yet, as `bench run` would; a line for each split once it is done.

    Raises InputError as `open_data` and `presence` do.
    """
    workspace = Workspace(store)
    workspace.check_writable()
    for split in SPLITS:
        data = open_data(name, split, root, label_space=name)
        start, read = time.perf_counter(), []
        with counting(f"indexing {name} {split}") as progress:
            found = presence(
                data,
                workspace.presence_folder,
                lambda done, total, show=progress, read=read: (read.append(done), show(done, total)),
                processes,
            )
        how = f"read in {time.perf_counter() - start:.1f} s" if read else "indexed before, nothing has changed since"
        yield f"{name} {split}: {len(data):,} images, {how}; digest {found.digest[:16]}"
