"""`bench measure`: images a second, peak memory and use of the device."""

import argparse
from pathlib import Path

from bench.commands.arguments import add_run_arguments, method_references, overrides
from protocols.errors import InputError


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "measure",
        help="images a second, peak memory and use of the device for each method",
        description="Trains a few iterations of step 0 and of the first increment of each method, at the real\n"
        "batch, crop, network and precision, and says how fast that goes, how much memory it takes, and which\n"
        "share of the card's peak the forward and backward passes reach (MFU). Stores nothing but one CSV file.",
    )
    add_run_arguments(parser)
    parser.add_argument("--iterations", type=int, default=50, metavar="N", help="of each step; default: 50")
    parser.add_argument("--out", default="hardware.csv", metavar="FILE", help="default: hardware.csv")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.iterations < 2:
        raise InputError(f"--iterations {arguments.iterations}: give at least 2, the first is not timed")
    given = overrides(arguments)
    from bench.hardware import measure

    return measure(given, method_references(arguments), arguments.iterations, Path(arguments.out))
