"""torch.compile, on request: student, teacher and losses of a step as fused kernels."""

from collections.abc import Callable

import torch

from bench.progress import announce

Losses = Callable[..., dict]


def compiled(forward: Losses) -> Losses:
    """`forward` through torch.compile, made anew for each step, since the network grows.

    The first call compiles, which takes minutes for a large network. Where that fails (no compiler, an operation that
    it does not know), it says so once and goes on as it was: the first batch is then computed again.
    """
    torch._dynamo.reset()  # what earlier steps compiled is of no use, and counts against the limit of versions
    fast = torch.compile(forward, dynamic=False)
    tried = False

    def call(*arguments):
        nonlocal fast, tried
        if tried:
            return fast(*arguments)
        tried = True
        try:
            return fast(*arguments)
        except Exception as fault:
            reason = " ".join(str(fault).split("\n\n")[0].split()) or type(fault).__name__
            announce(f"no torch.compile ({reason[:200]}): going on without")
            fast = forward
            return forward(*arguments)

    return call
