"""Content addresses and derived seeds."""

from bench.keys import derived_seed, digest


def test_a_digest_ignores_the_order_of_a_dictionary_and_nothing_else():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_a_digest_stays_the_same_between_versions():
    assert digest({"seed": 0, "lr": 0.05}) == "66638c523a81b64f75ca983f0c84cd27d4dd6c29b013c6b7e5285335bb33b4ee"


def test_seeds_fit_and_depend_on_every_part():
    seeds = {derived_seed(seed, name) for seed in range(50) for name in ("growth", "training")}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
