"""`bench check`: does a method keep the contract?"""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "check",
        help="hold a method against the contract that the engine relies on",
        description="Runs the contract tests on a method, on tiny networks: seconds. Exit code 1 if one fails.",
    )
    parser.add_argument("method", help="a name, or path/to/file.py:Class")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    import methods
    from bench.contract import print_checks

    return print_checks(methods.get(arguments.method))
