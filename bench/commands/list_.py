"""`bench list`: methods, protocols or runs."""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("list", help="list methods, protocols or runs", description="Lists what there is.")
    parser.add_argument("what", choices=("methods", "protocols", "runs"))
    parser.add_argument(
        "--store", default="runs", metavar="PATH", help="the store whose runs are listed (default: runs)"
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    from bench import listing

    {
        "methods": listing.print_methods,
        "protocols": listing.print_protocols,
        "runs": lambda: listing.print_runs(arguments.store),
    }[arguments.what]()
    return 0
