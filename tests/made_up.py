"""Made-up runs whose numbers can be worked out by hand."""

import math

import numpy as np
import pandas as pd

from results.schema import SCHEMA_VERSION, Run, write_run

NAMES = ["background", "cat", "dog", "owl", "fox"]
STEPS = [[1, 2], [3], [4]]
PIXELS = 100  # of every class


def make(store, method="mib", seed=0, hits=((90, 80), (60, 40, 50), (30, 20, 10, 40)), **changes) -> Run:
    """A run whose foreground class k gets hits[step][k - 1] of its 100 pixels right, the rest as background.

    Every image holds all classes; the 100 background pixels are all right. So class k has IoU hits / 100,
    background 100 / (100 + misses of the seen classes). hits: None for a step that is missing.
    """
    absent = changes.pop("absent", ())
    pixels = changes.pop("pixels", PIXELS)
    slots = [0] + [class_id for step in changes.get("step_classes", STEPS) for class_id in step]
    counts = {}
    for step, right in enumerate(hits):
        if right is None:
            continue
        array = np.zeros((3, len(slots), 1 + len(right)), dtype=np.int64)
        array[2, :, 0] = pixels
        for slot, hit in enumerate(right, start=1):
            array[2, slot, 0], array[2, slot, slot] = PIXELS - hit, hit
        array[:, list(absent)] = 0
        counts[step] = array
    label = changes.get("label", method)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "run": f"{label}-{changes.get('recipe', 'r')}-{seed}",
        "method": method,
        "variant": None,
        "label": label,
        "backbone": "deeplab",
        "network": "deeplab-tiny",
        "pretrained": "none",
        "track": "demo",
        "data": "shapes",
        "protocol": "pets_2-1",
        "dataset": "pets",
        "setting": "overlapped",
        "order": "default",
        "seed": seed,
        "recipe": "0123456789abcdef",
        "status": "complete",
        "single_step": method == "joint",
        "protocol_digest": "d1",
        "class_names": NAMES,
        "step_classes": STEPS,
        "background_evaluated": True,
        "evaluation": {"split": "val", "size": 64},
    } | changes
    return write_run(store / manifest["run"], manifest, slots, counts)


def frame(table) -> pd.DataFrame:
    """The raw numbers of a table, holes as NaN."""
    return pd.DataFrame(table.records()).replace("", math.nan)


JOINT = (None, None, (80, 70, 60, 90))

AWKWARD = ["background", "cat & dog", "5%_#", "</script><b>{owl}~^", "\\fox"]  # to LaTeX, Markdown and HTML


def two_protocols(store, class_names=AWKWARD) -> list[Run]:
    """Runs of two protocols: joint training once, three methods with two seeds each, and training times."""
    names = {"class_names": class_names}
    runs = [make(store, "joint", hits=JOINT, method_note="100 % sure", **names)]
    for seed in (0, 1):
        for method, best in (("finetune", 10), ("mib", 60), ("lbd", 70)):
            steps = [{"index": 0, "seconds": 2.0, "iterations": 4, "base_key": f"k{seed}", "images_per_second": 3.0}]
            hits = tuple((best - seed,) * (n + 2) for n in range(3))
            runs.append(make(store, method, seed=seed, hits=hits, steps=steps, **names))
            other = {"protocol": "pets_2-2", "protocol_digest": "d2", "step_classes": [[1, 2], [3, 4]]}
            hits = ((best, best), (best + seed,) * 4)
            runs.append(make(store, method, seed=seed, run=f"{method}-2-{seed}", hits=hits, **other, **names))
    return runs
