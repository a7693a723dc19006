"""`bench plan`: what a run would train, what is cached, what is shared."""

import argparse

from bench.commands.arguments import add_run_arguments, method_references, overrides


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "plan",
        help="show what `bench run` would do with the same arguments",
        description="Shows what `bench run` would do, before it does it: whether data, weights and disk are there,\n"
        "which steps are cached, which are shared between runs, which would be trained with how many\n"
        "iterations, and what that takes. Exit code 2 if the runs could not start.",
    )
    add_run_arguments(parser)
    parser.add_argument("--keys", action="store_true", help="also list every step with its key")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="measure a few iterations of step 0 and of an increment of every method here, for the estimate of time",
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    given = overrides(arguments)
    from bench.overview import print_plan

    return print_plan(given, method_references(arguments), arguments.keys, arguments.probe)
