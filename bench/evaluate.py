"""Evaluation: the predictions of one step's network against the masks, as integer counts. Scores are derived
elsewhere."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from bench import distributed
from bench.data.views import RawBatch
from bench.machine import Machine, Normaliser
from bench.windows import predict_whole
from methods.base import Batch, Method
from protocols.protocol import VOID, Step

VERSION = 1  # raised when counts of the same network change; part of the key of counts
SCOPES = 3


def image_scopes(presence: np.ndarray, step: Step) -> np.ndarray:
    """The scope of every image at `step`, from its whole mask: 0 no seen class, 1 seen classes only, 2 seen and future
    ones.

    presence: bool (N, n_classes + 1), column = class id; background does not count. Returns int64 (N,).
    """
    seen = presence[:, list(step.seen)].any(1)
    unseen = [c for c in range(1, presence.shape[1]) if c not in set(step.seen)]
    future = presence[:, unseen].any(1)
    return seen.astype(np.int64) * (1 + future)


def count_confusion(labels: Tensor, predictions: Tensor, scopes: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pixels by (scope, true slot, predicted slot), int64, on the device of the labels.

    labels (B, H, W) slots of the full protocol, 255 ignored; predictions (B, H, W) slots; scopes (B,) in 0..2; shape =
    (scopes, true slots, predicted slots).
    """
    n_scopes, n_true, n_predicted = shape
    cells = n_scopes * n_true * n_predicted
    index = (scopes.view(-1, 1, 1) * n_true + labels) * n_predicted + predictions
    index = torch.where(labels == VOID, cells, index)  # ignored pixels go to one cell past the end
    count = torch.bincount if index.is_cpu else scattered_count  # a bincount on a GPU makes the host wait
    return count(index.flatten(), minlength=cells + 1)[:cells].view(shape)


def scattered_count(index: Tensor, minlength: int) -> Tensor:
    """torch.bincount of an index (N,) whose values are known to be below `minlength`: it need not look for them."""
    return index.new_zeros(minlength).scatter_add_(0, index, torch.ones_like(index))


@torch.inference_mode()
def predict(
    method: Method, batches: Iterable[RawBatch], machine: Machine, normalise: Normaliser, crop: int | None = None
) -> Iterator[tuple[Batch, Tensor]]:
    """Every batch as the method could see it, with its labels, and the predicted slots, (B, H, W) int64.

    crop: where the batches are of whole images, the side of the training crop, of which windows are made.
    """
    method.eval()
    for raw in batches:
        batch = normalise(raw)
        with machine.autocast():
            if crop is None:
                predictions = method.predict(batch._replace(labels=None))
            else:
                predictions = predict_whole(method, batch.images, crop)
        yield batch, predictions


@torch.inference_mode()
def evaluate(
    method: Method,
    batches: Iterable[RawBatch],
    scopes: np.ndarray,
    n_true: int,
    machine: Machine,
    normalise: Normaliser,
    progress: Callable[[int], None],
    crop: int | None = None,
) -> np.ndarray:
    """Counts of the current step over all batches, int64 (3 scopes, true slot in the full protocol order, predicted
    slot); on several processes, over the batches of all of them.

    scopes: (N,) for the images in the order of the batches. `progress(images done)` is called after each batch.
    crop: as in `predict`.
    """
    shape = (SCOPES, n_true, method.step.n_slots)
    scopes = torch.from_numpy(scopes).to(machine.device)  # all at once: a batch must not wait for its own
    counts = torch.zeros(shape, dtype=torch.int64, device=machine.device)
    lowest, highest = (torch.zeros((), dtype=torch.int64, device=machine.device) for _ in range(2))
    done = 0
    for batch, predictions in predict(method, batches, machine, normalise, crop):
        lowest, highest = torch.minimum(lowest, predictions.min()), torch.maximum(highest, predictions.max())
        predictions = predictions.clamp(0, shape[2] - 1)  # what is out of range is reported after the loop
        counts += count_confusion(batch.labels, predictions, scopes[done : done + len(batch.ids)], shape)
        done += len(batch.ids)
        progress(done)
    distributed.add(counts)
    lowest, highest = distributed.lowest(torch.stack([lowest, -highest])) * torch.tensor([1, -1], device=counts.device)
    if lowest < 0 or highest >= shape[2]:
        raise ValueError(
            f"predict() of {type(method).__name__} gave slots {int(lowest)}..{int(highest)}; "
            f"step {method.step.index} has slots 0..{shape[2] - 1}"
        )
    return counts.cpu().numpy()
