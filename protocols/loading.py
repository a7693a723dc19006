"""`protocols.load`: a protocol by its name or its file."""

from collections.abc import Iterable
from pathlib import Path

from protocols import grammar
from protocols.custom import load_file
from protocols.errors import InputError, unknown
from protocols.files import expanded
from protocols.orders import resolve
from protocols.protocol import SETTINGS, Protocol, build


def load(name: str | Path, setting: str = "overlapped", order: str | Iterable[int] | None = None) -> Protocol:
    """The protocol of that name, or of a YAML file.

    Args:
        name: `<dataset>_<base>-<increment>[_<order>]`, such as voc_15-1 or voc_10-1_b; or a path that ends in
            .yaml or .yml (its form is told in `protocols.custom`).
        setting: "overlapped", "disjoint" or "sequential".
        order: the class order, where the name holds none: None for the dataset's own, a name in
            `orders.yaml`, "random:<seed>", or every class id once, as learned.

    Returns:
        The protocol. Its name tells its order: `load("voc_15-1", order="b")` is voc_15-1_b.

    Raises:
        InputError: unknown name, setting or order, or a fault in the file.
    """
    if setting not in SETTINGS:
        raise unknown("setting", setting, SETTINGS)
    if str(name).endswith((".yaml", ".yml")):
        return load_file(expanded(name), setting, order)
    parsed = grammar.parse(str(name))
    if parsed.order and order is not None:
        raise InputError(f"protocol {name!r} names its class order already: drop the order {order!r}")
    ids, label = resolve(parsed.dataset, parsed.order or order)
    base, increment = parsed.sizes[:2]
    full_name = f"{parsed.dataset.name}_{base}-{increment}" + (f"_{label}" if label else "")
    return build(full_name, parsed.dataset, setting, ids, parsed.sizes)
