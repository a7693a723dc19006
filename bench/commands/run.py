"""`bench run`: trains and evaluates methods on a protocol."""

import argparse

from bench.commands.arguments import (
    add_dry_argument,
    add_launcher_arguments,
    add_run_arguments,
    launcher,
    method_references,
    overrides,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "run",
        help="train and evaluate methods through the steps of a protocol",
        description="Trains and evaluates methods through the steps of a protocol. Steps that are cached are not\n"
        "trained again; a killed command goes on where it was when it is given again.",
    )
    add_run_arguments(parser)
    add_dry_argument(parser)
    add_launcher_arguments(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Runs everything, prints the table of these runs and where the files are."""
    given = overrides(arguments)
    if arguments.dry:
        from bench.dry import dry_run
        from bench.progress import announce

        if arguments.launcher:
            announce("--dry tries the runs one after the other, here: --launcher is not used")
        return dry_run(given, method_references(arguments))
    from bench.launch import launch

    return launch(given, method_references(arguments), launcher(arguments))
