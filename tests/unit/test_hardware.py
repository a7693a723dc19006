"""`bench measure`: which peak a card is held against."""

import pytest

from bench.hardware import _utilisation
from bench.meter import Measured


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 0.4),
        ("NVIDIA H100 PCIe", 0.4 * 989 / 756),
        ("NVIDIA H100 NVL", 0.4 * 989 / 835),
        ("NVIDIA H200", 0.4),
        ("NVIDIA H200 NVL", 0.4 * 989 / 835),
        ("NVIDIA A100-SXM4-80GB", 0.4 * 989 / 312),
    ],
)
def test_a_card_is_judged_by_the_peak_of_its_own_kind(device, expected):
    measured = Measured(0, 0.5, None, 1.0, 0, flops=int(0.4 * 989e12 * 0.5))
    assert _utilisation(measured, device, "bf16") == pytest.approx(expected, abs=1e-3)
    assert _utilisation(measured, device, "fp32") is None
    assert _utilisation(measured, "another card", "bf16") is None
