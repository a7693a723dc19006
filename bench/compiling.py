"""torch.compile, on request: student, teacher and losses of a step as fused kernels."""

from collections.abc import Callable

import torch
import torch._functorch.config as functorch

from bench.progress import announce

Losses = Callable[..., dict]
_refused = False  # it has failed in this process, and is not tried again


def refused() -> bool:
    """Whether torch.compile has failed in this process, so that nothing is compiled."""
    return _refused


def compiled(forward: Losses) -> Losses:
    """`forward` through torch.compile, made anew for each step, since the network grows.

    The first call compiles forward and backward, which takes minutes for a large network. Where that fails (no
    compiler, an operation that it does not know), it says so once and goes on as it was; the batch at hand is computed
    again. Memory that does not suffice is no such failure, and is raised.
    """
    if _refused:
        return forward
    torch._dynamo.reset()  # what earlier steps compiled is of no use, and counts against the limit of versions
    fast = torch.compile(forward, dynamic=False)

    def call(*arguments):
        global _refused
        if not _refused:
            try:
                with functorch.patch(force_non_lazy_backward_lowering=True):  # else a fault would come in backward()
                    return fast(*arguments)
            except Exception as fault:
                cause = getattr(fault, "inner_exception", fault)  # where a backend raised it
                if isinstance(cause, torch.OutOfMemoryError):  # of the batch, which says nothing of the compiler
                    raise cause from None
                _refused = True
                reason = " ".join(str(fault).split("\n\n")[0].split()) or type(fault).__name__
                announce(f"no torch.compile ({reason[:200]}): going on without")
        return forward(*arguments)

    return call
