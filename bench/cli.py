"""The command line. Nothing heavy is imported before a command runs: `bench --help` answers at once."""

import argparse
import os
import sys
from collections.abc import Sequence

from bench import interruption
from bench.commands import ablate, cache, check, data, list_, measure, plan, predict, report, run, score
from protocols.errors import InputError

DESCRIPTION = """\
A benchmark for class-incremental semantic segmentation.

A protocol says what is learned when, a method says how; every method goes through the same steps,
and what is stored are integer confusion counts, from which all tables are derived."""

EXAMPLES = """\
examples:
  bench run --methods finetune,mib,joint --protocol voc_10-1 --track demo --backbone deeplab
                                    minutes on a laptop, on rendered scenes
  bench run --methods mib --protocol voc_15-1 --backbone deeplab data.root=PATH/VOC2012
                                    the real thing, on a GPU
  bench plan --methods finetune,mib --protocol voc_10-1 --track demo
                                    what such a run would train, and what is there already
  bench ablate lbd --protocol voc_10-1 --track demo
                                    the method, without each of its parts, and with other settings
  bench data get voc                download, verify and merge VOC 2012 and SBD
  bench report                      tables of everything in the store
Every command is idempotent: run it again and it goes on where it was, or does nothing."""


class Parser(argparse.ArgumentParser):
    """Wrong arguments are wrong input like any other: one line."""

    def error(self, message: str):
        raise InputError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command and its arguments. Overrides (key=value) may stand anywhere among the options."""
    parser = Parser(
        prog="bench", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in (run, ablate, plan, report, score, predict, list_, check, measure, data, cache):
        command.add_parser(commands)
    arguments, rest = parser.parse_known_args(argv)
    overrides = [text for text in rest if not text.startswith("-")] if "overrides" in arguments else []
    if len(overrides) < len(rest):
        parser.error(f"unknown arguments: {' '.join(text for text in rest if text not in overrides)}")
    if overrides:
        arguments.overrides += overrides
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit codes: 0 done, 1 a run failed, 2 wrong input, 130 interrupted, 143 ended by SIGTERM."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # torchrun: only errors of PyTorch's own, which says much otherwise
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        arguments = parse(argv)
        with interruption.obeyed():
            return arguments.execute(arguments)
    except InputError as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 2
    except interruption.Stopped as ended:  # it has said so itself
        return ended.code
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `bench list ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as fault:
        if fault.filename is None:  # no file that was named on the command line
            raise
        print(f"bench: {InputError(f'{fault.filename} cannot be used: {fault.strerror}')}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
