"""`bench predict`: the predictions of a run as label maps."""

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "predict",
        help="write what the networks of a run predict, as PNG label maps",
        description="Loads the cached networks of a run and writes a PNG of class ids (VOC's palette) for each\n"
        "evaluated image and step: OUT/step_00/<image>.png, ... `bench score` reads the same form.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run, such as runs/<run>")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the maps go; must not exist yet")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    from bench.predict import write_predictions

    write_predictions(Path(arguments.run), Path(arguments.out))
    print(f"written: {arguments.out}")
    return 0
