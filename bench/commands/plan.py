"""`bench plan`: what a run would train, what is cached, what is shared."""

import argparse

from bench.commands.arguments import add_run_arguments, method_references, overrides


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "plan",
        help="show what `bench run` would do with the same arguments",
        description="Shows what `bench run` would do: which steps are cached, which are shared between runs, "
        "which would be trained, and what that takes.",
    )
    add_run_arguments(parser)
    parser.add_argument("--keys", action="store_true", help="also list every step with its key")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    given = overrides(arguments)
    from bench.launch import prepare
    from bench.overview import print_overview

    print_overview(prepare(given, method_references(arguments)), keys=arguments.keys)
    return 0
