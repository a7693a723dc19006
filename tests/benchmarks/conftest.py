"""What every benchmark does with its figures."""

import time
from collections.abc import Callable

import pytest

from tests.benchmarks.pairs import Pair, paired


@pytest.fixture
def beside(benchmark, capsys) -> Callable[..., Pair]:
    """beside(name, work, floor): times both in turns, prints the ratio, and keeps it with the benchmark's JSON.

    Where benchmarks are disabled (`make test`) both are called once, which shows that they work.
    """

    def measure(
        name: str,
        work: Callable[[], object],
        floor: Callable[[], object],
        rounds: int = 15,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Pair:
        times = {"rounds": rounds, "warm_up": 2} if benchmark.enabled else {"rounds": 1, "warm_up": 0}
        pair = paired(work, floor, clock=clock, **times)
        benchmark.extra_info |= {"ratio to the floor": round(pair.ratio, 3), "quartiles": pair.spread}
        with capsys.disabled():
            print(f"\n{name}: {pair}" if benchmark.enabled else "", end="")
        benchmark.pedantic(work, rounds=3 if benchmark.enabled else 1)
        return pair

    return measure
