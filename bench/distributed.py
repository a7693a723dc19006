"""One run on several processes, as torchrun starts them. Without torchrun every function here hands back what it got.

All processes go through the same steps of the same run. Of each batch of training they compute equal shares, and add up
sums, counts and gradients, so that the loss is that of the whole batch and not a mean of means; of the evaluated images
each takes a part. Passes before and after a step see whole batches everywhere. Rank 0 alone reads the records of the
store and writes to it; the others learn from it what it found.
"""

import inspect
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from bench.cache import StepCache
from methods.base import Method, Term
from protocols.errors import InputError

T = TypeVar("T")

PATIENCE = timedelta(days=30)  # rank 0 may wait long for a step that another job trains; torchrun ends what is dead


def rank() -> int:
    """Which process of the run this is; 0 alone writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes the run has."""
    return dist.get_world_size() if dist.is_initialized() else 1


def started_by_torchrun() -> bool:
    """Whether this process is one of several of a run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Which of the run's processes on this machine this is."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world() > 1 else 0


def local_world() -> int:
    """How many of the run's processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world() > 1 else 1


@contextmanager
def session() -> Iterator[None]:
    """Joins the processes that torchrun started, for the length of the block.

    What a fault says is said once: where all processes raise it, the others leave without a word.
    """
    if not started_by_torchrun():
        yield
        return
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view")  # of 1 x n parameters: no matter
    dist.init_process_group(timeout=PATIENCE)  # gloo on the CPU, for objects too; NCCL on GPUs
    try:
        yield
    except InputError as fault:
        if everywhere(fault) and rank() > 0:
            raise SystemExit(2) from fault
        raise
    dist.destroy_process_group()  # not after a fault: the others might never come to it


# -- what one process does for all ------------------------------------------------------------------------------------


def main_only(action: Callable[[], T]) -> T:
    """Calls `action` in rank 0; what it returns or raises, every process returns or raises."""
    if world() == 1:
        return action()
    value, fault = None, None
    if rank() == 0:
        try:
            value = action()
        except Exception as raised:
            fault = raised
            fault.everywhere = True
    answer = [value, _portable(fault)]
    dist.broadcast_object_list(answer)
    if rank() > 0:
        value, fault = answer
    if fault is not None:
        raise fault
    return value


def main_first(action: Callable[[], T]) -> T:
    """Calls `action` in rank 0, and in the others once it is done there: what it puts into files, they find."""
    made: list[T] = []
    main_only(lambda: made.append(action()))
    return made[0] if made else action()


def everywhere(fault: BaseException) -> bool:
    """Whether every process raises this fault at the same place, so that all can go on together after it."""
    return world() == 1 or getattr(fault, "everywhere", False)


def leave(fault: Exception, message: str, code: int) -> None:
    """Ends this process with a line that says why, after a fault that the others do not have. They end, too: their
    connections break, and torchrun stops them."""
    lost = isinstance(fault, dist.DistError) or any(word in str(fault) for word in ("gloo", "Gloo", "NCCL"))
    reason = "another process of this run ended, see its message" if lost else message
    print(f"bench: process {rank()} of {world()} ends: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(code) from fault


def _portable(fault: Exception | None) -> Exception | None:
    """The fault, or one that says the same where it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(fault))
        return fault
    except Exception:
        stand_in = RuntimeError("".join(traceback.format_exception_only(fault)).strip())
        stand_in.everywhere = True
        return stand_in


class SharedCache:
    """The step cache of a run on several processes: rank 0 looks and writes, all go by what it found. Tensors and
    rolling checkpoints every process reads itself."""

    def __init__(self, cache: StepCache):
        self.cache = cache
        self.load, self.rolling_path = cache.load, cache.rolling_path

    def has(self, key: str) -> bool:
        return main_only(lambda: self.cache.has(key))

    def meta(self, key: str) -> dict[str, Any]:
        return main_only(lambda: self.cache.meta(key))

    def log(self, key: str) -> list[dict[str, str]]:
        return main_only(lambda: self.cache.log(key))

    def verify_or_quarantine(self, key: str) -> None:
        main_only(lambda: self.cache.verify_or_quarantine(key))

    def publish(self, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], log: list[dict]) -> None:
        main_only(lambda: self.cache.publish(key, tensors, meta, log))

    def discard_rolling(self, key: str) -> None:
        main_only(lambda: self.cache.discard_rolling(key))

    def load_counts(self, key: str):
        return main_only(lambda: self.cache.load_counts(key))

    def publish_counts(self, key: str, counts) -> None:
        main_only(lambda: self.cache.publish_counts(key, counts))

    @contextmanager
    def lock(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Held by rank 0 for all."""
        held = self.cache.lock(key, waiting)
        main_only(held.__enter__)
        try:
            yield
        finally:
            if rank() == 0:
                held.__exit__(None, None, None)


def shared_cache(cache: StepCache) -> StepCache | SharedCache:
    """The cache as a run uses it: itself where one process runs alone."""
    return cache if world() == 1 else SharedCache(cache)


# -- training ---------------------------------------------------------------------------------------------------------


def check_batch(batch: int, accumulate: int) -> None:
    """Raises InputError unless every process gets the same number of images of each part of a batch."""
    if batch // accumulate % world():
        parts = f" in {accumulate} parts" if accumulate > 1 else ""
        raise InputError(
            f"train.batch={batch}{parts} cannot be shared equally by {world()} processes: "
            "choose another --nproc-per-node, or another batch (which is another recipe)"
        )


def check_network(network: nn.Module, device: torch.device) -> None:
    """Raises InputError where statistics of a batch would be those of one process's share."""
    if world() > 1 and device.type == "cpu" and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise InputError(
            "networks with batch norm need GPUs to run on several processes: PyTorch has no batch norm over processes "
            "on the CPU. Use one process, or --backbone segmenter"
        )


def synchronise_norms(method: Method) -> Method:
    """The method with batch norms that take their statistics over all processes."""
    if world() == 1 or not any(isinstance(module, _BatchNorm) for module in method.modules()):
        return method
    from timm.layers import convert_sync_batchnorm  # here: a plan needs no timm

    return convert_sync_batchnorm(method)


def equalise(method: Method) -> None:
    """Gives every process the state of rank 0, after passes in which they may have drawn or rounded differently."""
    if world() > 1:
        for tensor in method.state_dict().values():
            dist.broadcast(tensor, 0)


def parallel(method: Method) -> Callable[..., dict[str, Term | Tensor]]:
    """The method's forward, whose backward adds the gradients of all processes up."""
    if world() == 1:
        return method
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    keep_buffers = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    wrapped = DistributedDataParallel(method, find_unused_parameters=True, gradient_as_bucket_view=True, **keep_buffers)
    wrapped.register_comm_hook(None, _add_up)
    return wrapped


def _add_up(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sums gradients, where DistributedDataParallel would average them: losses are shares of the global one."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


def in_part(trained: Callable, last: bool) -> AbstractContextManager:
    """Around forward and backward of one part of a batch: gradients travel with the last part alone."""
    return nullcontext() if last or world() == 1 else trained.no_sync()


def with_global_counts(terms: dict[str, Term | Tensor]) -> dict[str, Term | Tensor]:
    """The terms with counts added up over all processes, so that the value of each is this process's share of the
    value for the whole batch. A plain tensor counts as an ordinary mean, which it is, shares being equal."""
    if world() == 1:
        return terms
    whole = as_terms(terms)
    device = next(iter(whole.values())).sum.device
    counts = add(torch.stack([term.count.detach().to(device, torch.float64) for term in whole.values()]))
    return {
        name: term._replace(count=count.to(term.count.dtype))
        for (name, term), count in zip(whole.items(), counts.unbind(), strict=True)
    }


def as_terms(terms: Mapping[str, Term | Tensor]) -> dict[str, Term]:
    """The terms of a loss, a plain tensor as the mean over one entry."""
    return {name: term if isinstance(term, Term) else Term.mean_of(term) for name, term in terms.items()}


def add(tensor: Tensor) -> Tensor:
    """The sum of the tensor over all processes, in place."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def lowest(tensor: Tensor) -> Tensor:
    """The least of each entry over all processes, in place."""
    if world() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return tensor


def agree(mine: bool, anyone: bool) -> tuple[bool, bool]:
    """What rank 0 says to the first, and whether any process says yes to the second."""
    if world() == 1:
        return mine, anyone
    votes = torch.tensor([int(mine and rank() == 0), int(anyone)])
    first, second = add(votes).tolist()
    return first > 0, second > 0


def gathered(tensor: Tensor) -> list[Tensor]:
    """The tensor of every process, by rank."""
    if world() == 1:
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(world())]
    dist.all_gather(found, tensor)
    return found


def part_of(length: int, multiple: int) -> slice:
    """This process's part of `length` things in a row: neighbours, whole groups of `multiple` but for the last. Where
    there are too few for all, process 0 has some."""
    groups = -(-length // multiple)
    first, last = (-(-groups * place // world()) * multiple for place in (rank(), rank() + 1))
    return slice(min(first, length), min(last, length))
