"""An LBD on the tiny CLIP, its steps, and made-up features of unit length."""

import torch
import torch.nn.functional as F
from torch import Tensor

import protocols
from methods.lbd.config import LbdConfig
from methods.lbd.method import Lbd
from methods.nn.network import NetworkConfig, build
from protocols.protocol import Step


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def lbd(**options) -> Lbd:
    torch.manual_seed(0)
    return Lbd(LbdConfig(**options), build(NetworkConfig("clip-tiny", "default", 32)))


def steps(protocol: str = "voc_10-1") -> list[Step]:
    return [step.visible() for step in protocols.load(protocol).steps]
