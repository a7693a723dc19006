"""Several processes of one run, worked by hand: shares, sums, and what one process does for all."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from bench import distributed
from bench.data.views import Share
from methods.base import MethodConfig, Term, cross_entropy
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from methods.nn.whole_batch import mean_over_images
from protocols import InputError, load


@pytest.mark.parametrize(
    ("rank", "world", "parts", "expected"),
    [(0, 1, 2, "abcdefgh"), (0, 2, 1, "abcd"), (1, 2, 1, "efgh"), (0, 2, 2, "abef"), (1, 2, 2, "cdgh")],
)
def test_shares_are_neighbours_of_each_part(rank, world, parts, expected):
    assert "".join(Share(rank, world, parts).of(list("abcdefgh"))) == expected


def test_alone_nothing_is_done():
    terms = {"ce": Term(torch.tensor(2.0), torch.tensor(3)), "kd": torch.tensor(1.0)}
    assert distributed.with_global_counts(terms) is terms
    assert distributed.part_of(10, 4) == slice(0, 10) and distributed.agree(True, False) == (True, False)
    tensor = torch.ones(2)
    assert distributed.add(tensor) is tensor and distributed.gathered(tensor)[0] is tensor
    method = torch.nn.BatchNorm2d(1)
    assert distributed.parallel(method) is method and distributed.synchronise_norms(method) is method


class Odd(Exception):
    """Cannot travel between processes: it does not come back from a pickle."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def in_two(rank: int, folder: Path) -> None:
    """All that two processes must agree on; an assertion that fails here fails the test."""
    os.environ.update(LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    assert (distributed.rank(), distributed.world()) == (rank, 2)

    # (2 + 4) / (1 + 3) = 1.5, of which 2/4 and 4/4; a mean of means would be (2 + 4/3) / 2
    term = Term(torch.tensor([2.0, 4.0][rank]), torch.tensor([1, 3][rank]), weight=10.0)
    plain = torch.tensor([3.0, 5.0][rank])
    shares = {name: t.value for name, t in distributed.with_global_counts({"a": term, "b": plain}).items()}
    assert shares == {"a": [5.0, 10.0][rank], "b": [1.5, 2.5][rank]}
    empty = Term(torch.tensor(0.0), torch.tensor([0, 4][rank]))
    assert distributed.with_global_counts({"a": empty})["a"].count == 4

    # The square of the mean of 1, 3 | 5, 7 is 16 in both; its gradient 2 * 4 / 4 comes from both: 4 in all
    values = torch.tensor([[1.0], [3.0]]) + 4 * rank
    values.requires_grad_()
    loss = mean_over_images(values).square().sum()
    loss.backward()
    assert loss == 16 and torch.equal(values.grad, torch.full((2, 1), 4.0))

    # 10 images in batches of 4: three batches, of which the first process has two; of one batch, it has that
    assert distributed.part_of(10, 4) == [slice(0, 8), slice(8, 10)][rank]
    assert distributed.part_of(3, 4) == [slice(0, 3), slice(3, 3)][rank]
    assert distributed.add(torch.tensor([rank + 1])) == 3 and distributed.lowest(torch.tensor([rank + 1])) == 1
    assert distributed.agree(rank == 1, rank == 1) == (False, True)
    assert [int(t) for t in distributed.gathered(torch.tensor([rank]))] == [0, 1]
    distributed.check_batch(8, 2)
    with pytest.raises(InputError, match=r"train.batch=6 in 2 parts cannot be shared equally by 2 processes"):
        distributed.check_batch(6, 2)

    calls = []
    assert distributed.main_only(lambda: calls.append(1) or "told") == "told" and len(calls) == 1 - rank
    assert distributed.main_first(lambda: calls.append(1) or rank) == rank and len(calls) == 2 - rank
    for raised, seen in ((InputError("wrong"), InputError), (Odd(1, 2), (Odd, RuntimeError)[rank])):
        with pytest.raises(seen, match="wrong|1 and 2") as caught:
            distributed.main_only(lambda raised=raised: throw(raised))
        assert distributed.everywhere(caught.value)
    assert not distributed.everywhere(ValueError())

    torch.manual_seed(rank)
    method = Finetune(MethodConfig(), build(NetworkConfig("segmenter-tiny", "none", 32)))
    method.begin_step(load("voc_10-5").steps[0].visible())
    distributed.equalise(method)
    check_gradient(rank, method)
    dist.destroy_process_group()
    (folder / f"done-{rank}").touch()


def throw(fault: Exception):
    raise fault


def check_gradient(rank: int, method: Finetune) -> None:
    """The gradient of four images, of which one process sees those with few labels, is that of the four at once."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    labels = torch.randint(11, (4, 32, 32), generator=generator)
    labels[:2, 4:] = 255
    method.train()
    cross_entropy(method.logits(images), labels).value.backward()
    expected = {name: p.grad.clone() for name, p in method.named_parameters()}
    method.zero_grad()
    forward = distributed.parallel(method)
    mine = slice(2 * rank, 2 * rank + 2)
    batch = type("Batch", (), {"images": images[mine], "labels": labels[mine]})
    sum(term.value for term in distributed.with_global_counts(forward(batch)).values()).backward()
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-6, msg=name)


def test_two_processes_agree(tmp_path):
    torch.multiprocessing.spawn(in_two, (tmp_path,), nprocs=2)
    assert {path.name for path in tmp_path.glob("done-*")} == {"done-0", "done-1"}
