"""`bench ablate`: every declared variant of a method on one protocol, as a table of check marks."""

import argparse

from bench.commands.arguments import (
    add_dry_argument,
    add_launcher_arguments,
    add_run_arguments,
    launcher,
    overrides,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ablate",
        help="run a method and its declared variants, and set them beside each other",
        description="Runs a method and the variants that it declares (`bench list methods` shows them), trains\n"
        "what is missing, prints a table of check marks, and writes it as CSV and LaTeX.",
    )
    parser.add_argument("method", metavar="METHOD", help="e.g. lbd or mbs, or path/to/file.py:Class")
    parser.add_argument(
        "--variants", metavar="A,B", help="only these variants; `full` is the method itself (default: all, and it)"
    )
    parser.add_argument("--convention", default="default", metavar="C", help="default, mib, plop, mbs or ssul")
    parser.add_argument("--out", metavar="DIR", help="where the CSV and LaTeX files go (default: STORE/reports)")
    add_run_arguments(parser, methods=False)
    add_dry_argument(parser)
    add_launcher_arguments(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Runs everything, prints the ablation table and where the files are."""
    from bench.ablation import references
    from bench.launch import launch_ablation

    chosen = [name.strip() for name in arguments.variants.split(",")] if arguments.variants else None
    listed = references(arguments.method, chosen)
    arguments.methods = ",".join(listed)
    if arguments.dry:
        from bench.dry import dry_run

        return dry_run(overrides(arguments), listed)
    return launch_ablation(overrides(arguments), listed, arguments.convention, launcher(arguments), arguments.out)
