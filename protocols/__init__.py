"""What is learned when: datasets' classes, protocols and their steps, and the images of each step."""

from protocols.dataset_info import DatasetInfo, dataset, datasets
from protocols.errors import InputError, unknown
from protocols.loading import load
from protocols.protocol import SETTINGS, VOID, Protocol, ProtocolStep, Step
from protocols.split import protocol_images, step_images
from protocols.usual import names, step_counts

__all__ = [
    "SETTINGS",
    "VOID",
    "DatasetInfo",
    "InputError",
    "Protocol",
    "ProtocolStep",
    "Step",
    "dataset",
    "datasets",
    "load",
    "names",
    "protocol_images",
    "step_counts",
    "step_images",
    "unknown",
]
