"""Content that can be checked when it is read: arrays and records that carry their own sha256.

What is read may be damaged or hostile: nothing is unpickled, and no file takes more memory than its reader allows.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from protocols.files import NOT_THE_FILE, read_bytes

DIGEST = "sha256"  # the name of the digest among the arrays of an archive, and of the digests in a record
RECORD = "record"  # among those of a record: its own


class Damaged(ValueError):
    """Content that cannot be read, or is not what its digest says."""


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed .npz of the arrays and their digest; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{DIGEST: np.array(_arrays_digest(arrays))})
    return buffer.getvalue()


def read_npz(path: Path, limit: int) -> dict[str, np.ndarray]:
    """The arrays of a .npz, without their digest; archives from before there were digests are read unchecked.

    limit: bytes that all arrays may take together. OSError: it cannot be read now. Damaged: it never can.
    """
    try:
        content = read_bytes(path, limit)
    except OSError as fault:
        if fault.errno in NOT_THE_FILE:
            raise Damaged(str(fault)) from fault
        raise
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)  # zipfile reads no more than a member says
            if size > limit:
                raise Damaged(f"its arrays would take {size} bytes, at most {limit} are expected")
            arrays = {member.filename.removesuffix(".npy"): npy_array(archive.read(member)) for member in members}
    except Damaged:
        raise
    except Exception as fault:  # numpy, zipfile and zlib each fail in their own ways
        raise Damaged(str(fault) or type(fault).__name__) from fault
    digest = arrays.pop(DIGEST, None)
    if digest is not None and str(digest) != _arrays_digest(arrays):
        raise Damaged("it does not have the sha256 that it names")
    return arrays


def npy_array(content: bytes) -> np.ndarray:
    """The array in the bytes of a .npy. Damaged: it is none, has pickled objects, or claims more than is there."""
    try:
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = header[version](stream)
        if np.prod(shape, dtype=object) * dtype.itemsize > len(content):
            raise Damaged(f"it claims to be {dtype} {shape}, which it has no bytes for")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except Damaged:
        raise
    except Exception as fault:  # the header is text of any kind
        raise Damaged(str(fault) or type(fault).__name__) from fault


def sealed(record: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The record as it reads back from JSON, with the sha256 of the files beside it and of itself."""
    content = json.loads(json.dumps({**record, DIGEST: dict(files)}))
    return {**content, DIGEST: {**files, RECORD: _record_digest(content)}}


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record carries its own sha256; those from before there were seals do not."""
    return isinstance(record.get(DIGEST), dict) and RECORD in record[DIGEST]


def check_seal(record: Mapping[str, Any]) -> None:
    """Raises Damaged if a sealed record is not what its sha256 says."""
    if not is_sealed(record):
        return
    others = {name: digest for name, digest in record[DIGEST].items() if name != RECORD}
    if record[DIGEST][RECORD] != _record_digest({**record, DIGEST: others}):
        raise Damaged("it does not have the sha256 that it names")


def _record_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
