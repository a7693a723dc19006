"""`bench score`: anyone's predictions, as label maps, to counts and a run."""

import argparse
from pathlib import Path

from protocols.errors import InputError, unknown
from protocols.files import expanded

DESCRIPTION = """\
Scores predictions from any code base. DIR holds a folder for each step of the protocol: step_00, step_01, ...
(0, 00 and step0 are understood, too), and in each a PNG for every val image, named after it: 8 bits, palette or
grey, values are class ids (0 background). Joint training, all classes in one step, has one folder: joint. What
comes out is a run like every other, in the track `external`.

The engine evaluates its own runs on the shorter side resized to S pixels and the centre S x S (512 in the
unified track): write such crops and give evaluation.size=S to be counted on the same pixels, or write maps of
the size of each image (evaluation.size=native). Without it the first label map decides. `bench predict` writes
a run of this store in that form."""
KEYS = """\
key=value:
  data.root=PATH         where VOC or ADE20K lies
  evaluation.size=S      pixels, or native
  data.val_images=300    how many scenes, and data.image_size=PIXELS their side (shapes only)
  seed=0                 of the predictions: several of one NAME are averaged in reports
  store=runs             where the run is put"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "score",
        help="score label maps from any code base",
        description=DESCRIPTION,
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="the folder of label maps, one folder a step in it")
    parser.add_argument("--protocol", required=True, metavar="P", help="e.g. voc_10-1, ade_100-10, or a YAML file")
    parser.add_argument("--setting", default="overlapped", metavar="S", help="overlapped (default), disjoint, ...")
    parser.add_argument("--order", metavar="O", help="class order: a name, or random:SEED (default: the data set's)")
    parser.add_argument("--name", metavar="NAME", help="what tables call it (default: the name of DIR)")
    parser.add_argument("--data", metavar="NAME", help="voc, ade or shapes; default: the protocol's own")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Scores, prints the table of the run and where its files are."""
    options = {"store": Path("runs"), **dict(map(_option, arguments.overrides))}

    from bench.score import Request, score_folder
    from protocols import load
    from results.render import report

    protocol = load(arguments.protocol, arguments.setting, arguments.order)
    folder = Path(arguments.folder)
    name = arguments.name or folder.resolve().name
    run = score_folder(Request(folder, protocol, name, arguments.data or protocol.dataset, **options))
    print(report(options["store"], runs=[run.manifest["run"]]))
    print(f"\nfiles: {run.path}/ with manifest.json, counts.npz, cells.csv")
    return 0


def _size(text: str) -> int | str:
    return text if text == "native" else _whole(text, least=16)


def _whole(text: str, least: int = 0) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ValueError(f"a whole number of at least {least}")
    return int(text)


_OPTIONS = {
    "evaluation.size": ("size", _size),
    "seed": ("seed", _whole),
    "data.val_images": ("val_images", lambda text: _whole(text, least=1)),
    "data.image_size": ("image_size", lambda text: _whole(text, least=16)),
    "data.root": ("root", str),
    "store": ("store", expanded),
}


def _option(override: str) -> tuple[str, int | str | Path]:
    """The field of `Request` that a key=value sets, and its value. InputError: an unknown key, a wrong value."""
    key, _, value = override.partition("=")
    if key not in _OPTIONS or "=" not in override:
        raise unknown("key", key, _OPTIONS)
    field, parsed = _OPTIONS[key]
    try:
        return field, parsed(value)
    except ValueError as fault:
        raise InputError(f"{override}: give {fault}" + (" or native" if field == "size" else "")) from fault
