"""`bench data`: VOC and ADE20K from nothing to checked and indexed."""

import argparse
from collections.abc import Callable
from pathlib import Path

from protocols.errors import InputError, unknown
from protocols.files import expanded

DESCRIPTION = """\
Gets, checks and indexes the real data sets. From nothing to a first run:

  bench data get voc data.root=DATA      download VOC 2012 and SBD, verify, unpack, merge their masks
  bench data check voc data.root=DATA    read every file, say what is wrong and how to mend it
  bench run --methods mib --protocol voc_15-1 --backbone deeplab data.root=DATA

and the same with `ade`. Have VOC 2012 already, without SBD? Give its folder: `get` adds what is missing."""
GET = """\
Downloads, verifies, unpacks: voc is VOC 2012 and SBD with SegmentationClassAug and train_aug.txt (10,582 images) made
from both; ade is ADEChallengeData2016. What is there already is kept. Stopped half way, the same command goes on.

Machine without network, or a server that is down? Put the archives, under their published names, into a folder or
behind another server, and name it with --from. Checksums are verified all the same."""
CHECK = """\
Reads every image and mask and holds the copy against what was published: files, names, sizes, mask modes, labels,
train/val overlap, and the training images of each step of every usual protocol. Exit code 0: all is right; 2: one
line for each fault, with its mend. What was read is kept as the index (see `bench data index`)."""
INDEX = """\
Reads every mask once and keeps which classes each image holds: what `bench run` does at its first use of a data set,
done ahead of time, for instance before a queue of jobs starts. Read again only when files have changed."""
OPTIONS = """\
key=value:
  data.root=PATH   the folder of the data, or the one around it (default: data)"""
NAMES = ("voc", "ade")

Execute = Callable[[argparse.Namespace, Path], int]


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "data",
        help="get, check and index VOC and ADE20K",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    get = _action(actions, "get", "download, verify and unpack", GET, _get)
    get.add_argument(
        "--from",
        dest="place",
        metavar="PLACE",
        help="where the archives are: a URL, a folder, or one archive (default: the official servers)",
    )
    check = _action(actions, "check", "read every file, say what is wrong", CHECK, _check)
    check.add_argument("--subset", action="store_true", help="a cut of the data on purpose: names are not compared")
    check.add_argument("--all", action="store_true", help="name every case of each fault, not the first alone")
    index = _action(actions, "index", "note which classes each image holds", INDEX, _index)
    for reading in (check, index):
        reading.add_argument(
            "--store", type=expanded, default="runs", metavar="PATH", help="where the index is kept (default: runs)"
        )
    for working in (get, check, index):
        working.add_argument(
            "--processes", type=int, metavar="N", help="that share the work (default: one for each CPU)"
        )


def _action(
    actions: argparse._SubParsersAction, name: str, help_: str, description: str, execute
) -> argparse.Namespace:
    parser = actions.add_parser(
        name,
        help=help_,
        description=description,
        epilog=OPTIONS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=NAMES, metavar="NAME", help="voc or ade")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.set_defaults(execute=lambda arguments: execute(arguments, _root(arguments)))
    return parser


def _root(arguments: argparse.Namespace) -> Path:
    """The folder that data.root= names. Raises InputError for any other key."""
    root = "data"
    for override in arguments.overrides:
        key, equals, value = override.partition("=")
        if key != "data.root":
            raise unknown("key", key, ("data.root",))
        if not equals or not value:
            raise InputError(f"{override!r}: write data.root=PATH")
        root = value
    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes {arguments.processes}: give at least 1")
    return expanded(root)


def _get(arguments: argparse.Namespace, root: Path) -> int:
    from bench.data.getting import get

    folder = get(arguments.name, root, arguments.place, arguments.processes)
    print(f"{folder} is ready; next: bench data check {arguments.name} data.root={root}")
    return 0


def _check(arguments: argparse.Namespace, root: Path) -> int:
    from bench.data.checking import check
    from bench.workspace import Workspace

    workspace = Workspace(arguments.store)
    workspace.check_writable()
    report = check(arguments.name, root, workspace.presence_folder, arguments.subset, arguments.processes)
    print(f"{report.title} in {report.folder}")
    for line in report.lines:
        mend = f" -> {line.mend}" if line.fault else ""
        print(f"{'FAULT' if line.fault else 'ok':7}{line.name}: {line.text}{mend}")
        for case in line.cases if arguments.all else ():
            print(f"         {case}")
    if report.faults:
        kinds = ", ".join(dict.fromkeys(line.name for line in report.faults))
        raise InputError(f"{report.folder} has faults: {kinds}; each line above says how it is mended")
    return 0


def _index(arguments: argparse.Namespace, root: Path) -> int:
    from bench.data.indexing import index

    for line in index(arguments.name, root, arguments.store, arguments.processes):
        print(line, flush=True)
    return 0
