"""`bench cache`: look at trained steps, check them, make room."""

import argparse

from protocols.files import expanded


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "cache",
        help="list, verify or clear trained steps",
        description="list: every trained step. verify: check steps, counts and runs against their sha256, put damaged "
        "steps and counts into quarantine, and name steps trained by other code of the same version. gc: remove "
        "steps and counts that no run of the store refers to, unfinished checkpoints "
        "and quarantine.",
    )
    parser.add_argument("action", choices=("list", "verify", "gc"))
    parser.add_argument("--store", type=expanded, default="runs", metavar="PATH", help="default: runs")
    parser.add_argument("--dry-run", action="store_true", help="gc: say what would be removed, and remove nothing")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    from bench import housekeeping

    if arguments.action == "list":
        return housekeeping.print_entries(arguments.store)
    if arguments.action == "verify":
        return housekeeping.verify(arguments.store)
    return housekeeping.collect(arguments.store, dry_run=arguments.dry_run)
