"""Two pieces of work timed in turns: other load on the machine hits both, so their ratio can be trusted."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Pair(NamedTuple):
    """Median seconds of a piece of work and of its floor, and the ratio with the quartiles of the single rounds."""

    work: float
    floor: float
    ratio: float
    spread: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.spread
        times = f"{1e3 * self.work:.2f} ms, floor {1e3 * self.floor:.2f} ms"
        return f"{times}, ratio {self.ratio:.2f} (quartiles {low:.2f} to {high:.2f})"


def paired(
    work: Callable[[], object],
    floor: Callable[[], object],
    rounds: int = 15,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Pair:
    """Times `work` and `floor` in turns. clock: `time.process_time` counts what this process alone takes of the CPU."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(warm_up + rounds):
        for call, kept in zip((work, floor), times, strict=True):
            started = clock()
            call()
            kept.append(clock() - started)
    works, floors = (kept[warm_up:] for kept in times)
    ratios = [one / other for one, other in zip(works, floors, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    work_time, floor_time = statistics.median(works), statistics.median(floors)
    return Pair(work_time, floor_time, work_time / floor_time, (quartiles[0], quartiles[2]))
