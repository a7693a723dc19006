"""Which images belong to which step, from the presence of classes in the images."""

from collections.abc import Sequence

import numpy as np

from protocols.errors import InputError, unknown
from protocols.protocol import SETTINGS, Protocol, ProtocolStep


def step_images(presence: np.ndarray, step: ProtocolStep, setting: str) -> np.ndarray:
    """Images of one step, by the rule of the setting.

    overlapped: images with at least one new class. disjoint, sequential: of those, only images with no future
    class, so that every image belongs to the step of its latest class. (Cermelli et al., CVPR 2020.)

    Args:
        presence: bool (N, n_classes + 1); column = class id; the background's column is not looked at.
        step: a step of a protocol over these classes.
        setting: "overlapped", "disjoint" or "sequential".

    Returns:
        int64 (n,): sorted row indices.

    Raises:
        InputError: unknown setting.
        ValueError: a presence matrix of another shape.
    """
    if setting not in SETTINGS:
        raise unknown("setting", setting, SETTINGS)
    presence = np.asarray(presence, dtype=bool)
    columns = 1 + len(step.seen) + len(step.future)
    if presence.ndim != 2 or presence.shape[1] != columns:
        raise ValueError(f"presence must be (N, {columns}), one column per class id, not {presence.shape}")
    chosen = presence[:, list(step.new)].any(axis=1)
    if setting != "overlapped":
        chosen &= ~presence[:, list(step.future)].any(axis=1)
    return np.flatnonzero(chosen).astype(np.int64)


def protocol_images(
    protocol: Protocol, step: ProtocolStep, presence: np.ndarray, image_ids: Sequence[str]
) -> np.ndarray:
    """Images of one step of a protocol: its own list where it has one, the rule of its setting otherwise.

    Args:
        protocol: the protocol.
        step: one of its steps, or its `joint_step()`, which takes the images of all lists.
        presence: bool (N, n_classes + 1), as in `step_images`.
        image_ids: the N names of the training images, in the order of the rows.

    Returns:
        int64 (n,): sorted row indices.

    Raises:
        InputError: a listed image does not exist.
    """
    if protocol.image_lists is None:
        return step_images(presence, step, protocol.setting)
    joint = step == protocol.joint_step()
    lists = protocol.image_lists if joint else protocol.image_lists[step.index : step.index + 1]
    row = {id: index for index, id in enumerate(image_ids)}
    rows = set()
    for image in (image for images in lists for image in images):
        index = row.get(image) if isinstance(image, str) else image
        if index is None or index >= len(image_ids):
            raise InputError(
                f"protocol {protocol.name} lists image {image!r}, which is not among the "
                f"{len(image_ids)} training images: mend the list, or point data.root at the full dataset"
            )
        rows.add(index)
    return np.array(sorted(rows), dtype=np.int64)
