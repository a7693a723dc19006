"""`bench report`: tables from the counts in a store. Loads no torch."""

import argparse
from functools import partial

from protocols.errors import InputError
from protocols.files import expanded

FORMATS = (
    "terminal (default): the main tables; md, csv, latex: all tables, for notes, for other programs, and for papers; "
    "png, pdf: figures; html: all of it as one page that needs no other file"
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "report",
        help="tables and figures of the runs in a store",
        description="Derives tables from the stored counts: old, new and all classes, average over the steps, harmonic "
        "mean, forgetting; and mIoU of all seen classes at each step. Files add tables per class and per group of "
        "classes, paired comparisons, cost, and several protocols side by side. Tracks, data and backbones never share "
        "a table.",
    )
    parser.add_argument("--store", type=expanded, default="runs", metavar="PATH", help="default: runs")
    parser.add_argument("--protocol", metavar="P", help="only runs of this protocol")
    parser.add_argument("--format", default="terminal", metavar="F,G", help=FORMATS)
    parser.add_argument(
        "--convention", default="default", metavar="C", help="default, mib, plop, mbs or ssul: whose way of counting"
    )
    parser.add_argument(
        "--compare", choices=("published",), help="published: also set ours beside numbers from papers, with sources"
    )
    parser.add_argument("--out", metavar="PATH", help="folder for files (default: STORE/reports)")
    parser.add_argument("--explain", action="store_true", help="name the runs, seeds and commands behind each row")
    parser.add_argument(
        "--panels",
        type=int,
        default=0,
        metavar="N",
        help="also N images with every prediction at the last step",
    )
    parser.add_argument("--images", metavar="A,B", help="the images of --panels (default: where methods differ)")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    from results.render import report

    if arguments.panels < 0:
        raise InputError(f"--panels {arguments.panels}: give how many images, 1 or more")
    made = report(
        arguments.store,
        arguments.protocol,
        arguments.format.split(","),
        arguments.convention,
        arguments.out,
        compare=arguments.compare is not None,
        explain=arguments.explain,
        further=_panels(arguments),
    )
    print(made)
    return 0


def _panels(arguments: argparse.Namespace):
    """What draws the panels of groups of runs; None where none are asked for."""
    if not arguments.panels and not arguments.images:
        return None
    from bench.panels import draw_groups  # loads torch

    return partial(draw_groups, count=arguments.panels, ids=arguments.images.split(",") if arguments.images else ())
