"""`bench list`: methods, protocols, runs or published numbers."""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "list", help="list methods, protocols, runs or published numbers", description="Lists what there is."
    )
    parser.add_argument("what", choices=("methods", "protocols", "runs", "published"))
    parser.add_argument(
        "--store", default="runs", metavar="PATH", help="the store whose runs are listed (default: runs)"
    )
    parser.add_argument("--protocol", metavar="P", help="published numbers of this protocol, e.g. voc_15-1")
    parser.add_argument("--method", metavar="M", help="published numbers of this method, e.g. mib")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    from bench import listing

    {
        "methods": listing.print_methods,
        "protocols": listing.print_protocols,
        "runs": lambda: listing.print_runs(arguments.store),
        "published": lambda: listing.print_published(arguments.protocol, arguments.method),
    }[arguments.what]()
    return 0
