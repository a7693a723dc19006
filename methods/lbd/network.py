"""The network of LBD: CLIP's dense features, matched with class prototypes from text and a bank of backgrounds."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.lbd.background import aggregate_background
from methods.lbd.config import LbdConfig
from methods.lbd.decoder import PrototypeDecoder, cosines
from methods.lbd.prototypes import dealt
from methods.nn.clip import DenseClip
from methods.nn.network import Network
from methods.nn.segmenter import class_axis_norm
from protocols.errors import InputError

GENERIC = "object"  # a name of no class in particular, where only shapes count
CONTEXT_STD = 0.02
TEMPERATURE, COLDEST, HOTTEST = 0.07, 0.01, 1.0


class LbdOutput(NamedTuple):
    """What the network computes. B images, N = h w patches, n seen classes, K background prototypes, width D."""

    logits: Tensor  # (B, 1 + n, h, w) float32, over slots
    patches: Tensor  # (B, N, D) float32, unit, of the encoder
    prototypes: Tensor  # (n, D) float32, unit
    backgrounds: Tensor  # (K, D) float32, unit
    decoded: Tensor  # (B, N, D): what is matched; the patches themselves with head=cosine
    decoded_classes: Tensor | None  # (B, K + n, D), backgrounds first; None with head=cosine


class LbdNetwork(Network):
    """Grows by one entry in each list at every step. Of contexts, residuals and prototypes only the last entry is
    learned; the affine of the class-axis norm is learned as a whole, and so is the bank of backgrounds (unless
    bg_bank=grow).

    Prototypes of finished steps are constants: neither the text tower nor a context is needed for them, nor in
    evaluation at all.
    """

    def __init__(self, clip: DenseClip, config: LbdConfig) -> None:
        super().__init__()
        self.clip, self.config = clip, config
        self.mean, self.std = clip.mean, clip.std
        clip.adapt_to_dense(config.encoder_adapt)
        dim = clip.dim
        self.decoder = PrototypeDecoder(dim) if config.head == "mask_transformer" else None
        share = (TEMPERATURE - COLDEST) / (HOTTEST - COLDEST)
        self.warmth = nn.Parameter(torch.tensor(share).logit())
        self.backgrounds = nn.ParameterList()  # (K, D); with bg_bank=grow one more row a step
        self.contexts = nn.ParameterList()  # (M, width of the text tower)
        self.residuals = nn.ParameterList()  # (n_new, D)
        self.guides = nn.ParameterList()  # (n_new, D): hand-crafted text features, constants, the targets of LPD
        self.kept = nn.ParameterList()  # (n_new, D): prototypes as they stand at the end of their step
        self.norm_weight = nn.ParameterList()  # affine of the class-axis norm: the background, then one a step
        self.norm_bias = nn.ParameterList()
        self.register_buffer("anchor", torch.zeros(dim))
        self.names: tuple[str, ...] = ()
        self.spare: Tensor | None = None  # of lpd_permuted; no state: whoever enters a step has entered those before

    @property
    def n_slots(self) -> int:
        return 1 + len(self.names) if self.kept else 0

    @property
    def temperature(self) -> Tensor:
        """tau, a scalar within COLDEST and HOTTEST, by a sigmoid: it has a gradient everywhere."""
        return COLDEST + (HOTTEST - COLDEST) * self.warmth.sigmoid()

    def grow(self, n_new: int, init: str = "random") -> None:
        """Adds n_new slots without names, for their shapes alone; the first call counts the background."""
        self.learn([GENERIC] * (n_new - (not self.kept)))

    @torch.no_grad()
    def learn(self, names: Sequence[str]) -> None:
        """Enters a step with classes of these names: their prototypes start from text, and older ones become
        constants. Raises InputError if the context of soft prompts does not fit beside a name."""
        config, text, like = self.config, self.clip.text, self.anchor  # `like`: for device and width
        for entry in (*self.contexts, *self.residuals):
            entry.requires_grad_(False)
        for entry in self.kept:
            entry.requires_grad_(config.old_proto == "tuned")
        first = not self.kept
        if first:
            self._add_norm(1)
        self._add_backgrounds(first)
        room = text.longest_context(names)
        inherited = not (first or config.fresh_context)
        context = self.contexts[-1] if inherited else self._first_context()
        if len(context) > room:
            size = len(context)
            raise InputError(
                f"lbd.context={config.context}: {size} vectors leave no room for class names: at most {room}"
            )
        self.contexts.append(nn.Parameter(context.detach().clone().to(like.device)))
        self.residuals.append(nn.Parameter(like.new_zeros(len(names), len(like))))
        self.names += tuple(names)
        templates = text.templates(names, config.single_template)
        if first and len(names) > 1:  # of one class alone it would be the class itself
            self.anchor.copy_(templates.mean(dim=0))
        guides = templates
        if config.lpd_permuted:
            spare = text.templates([GENERIC])[0] if first else self.spare
            guides, self.spare = dealt(templates, spare)
        self.guides.append(nn.Parameter(guides.clone(), requires_grad=False))
        if config.proto == "free":
            self.residuals[-1].copy_(templates)
            self.contexts[-1].requires_grad_(False)
        elif config.lpd == "init_only":
            self.residuals[-1].copy_(templates - text.prompts(self.contexts[-1], names))
        if config.proto == "prompt":
            self.residuals[-1].requires_grad_(False)
        self.kept.append(nn.Parameter(self._new_prototypes(len(names)), requires_grad=False))
        self._add_norm(len(names))

    def templates(self) -> Tensor:
        """Hand-crafted text features of the seen classes, (n, D) unit, constants."""
        return torch.cat(list(self.guides))

    @torch.no_grad()
    def keep_prototypes(self) -> None:
        """At the end of a step: fixes the prototypes of its classes."""
        self.kept[-1].copy_(self._new_prototypes(len(self.kept[-1])))

    def prototypes(self) -> Tensor:
        """Unit prototypes of the seen classes, (n, D); in training those of the step come from their prompts."""
        last = self._new_prototypes(len(self.kept[-1])) if self.training else self.kept[-1]
        return F.normalize(torch.cat([*self.kept[:-1], last]), dim=1)

    def bank(self) -> Tensor:
        """Unit background prototypes, (K, D)."""
        return F.normalize(torch.cat(list(self.backgrounds)), dim=1)

    def forward(self, images: Tensor, taps: bool = False) -> LbdOutput:
        features = self.clip(images)  # (B, N, D)
        prototypes, bank = self.prototypes(), self.bank()
        anchors = torch.cat([bank, prototypes])  # (K + n, D)
        decoded, classes = features, None
        if self.decoder is not None:
            decoded, classes = self.decoder(features, anchors)
        scores = cosines(decoded, anchors if classes is None else classes) / self.temperature  # (B, N, K + n)
        scores = aggregate_background(scores, len(bank), self.config.bg_agg)  # (B, N, 1 + n)
        if self.decoder is not None:
            scores = class_axis_norm(scores, torch.cat(list(self.norm_weight)), torch.cat(list(self.norm_bias)))
        grid = (images.shape[2] // self.clip.patch, images.shape[3] // self.clip.patch)
        return LbdOutput(scores.mT.unflatten(2, grid), features, prototypes, bank, decoded, classes)

    def class_vectors(self) -> Tensor:
        return torch.cat([self.bank().mean(dim=0, keepdim=True), self.prototypes()])

    def encoder_parameters(self) -> list[nn.Parameter]:
        prompts = self.clip.visual_prompts  # they know nothing yet: at the rate of the head
        return [p for p in self.clip.parameters() if p is not prompts]

    def head_parameters(self) -> list[nn.Parameter]:
        encoder = {id(p) for p in self.encoder_parameters()}
        return [p for p in self.parameters() if id(p) not in encoder]

    def _first_context(self) -> Tensor:
        """The context of a soft prompt that follows no other, (M, width of the text tower)."""
        drawn = self.config.random_context
        if drawn is None:
            return self.clip.text.words(self.config.context)
        return CONTEXT_STD * torch.randn(drawn, self.clip.text.width)

    def _new_prototypes(self, n_new: int) -> Tensor:
        """Prototypes of the last n_new classes: soft prompt and residual, or the residual alone (proto=free)."""
        residual = self.residuals[-1]
        if self.config.proto == "free":
            return F.normalize(residual, dim=1)
        return F.normalize(self.clip.text.prompts(self.contexts[-1], self.names[-n_new:]) + residual, dim=1)

    def _add_backgrounds(self, first: bool) -> None:
        how, like = self.config.bg_bank, self.anchor
        if not first and how == "carry":
            return
        for older in self.backgrounds:
            older.requires_grad_(how != "grow")
        count = 1 if how == "grow" and not first else self.config.backgrounds
        fresh = F.normalize(torch.randn(count, len(like)).to(like.device), dim=1)
        if not first and how == "reinit":
            self.backgrounds[0].copy_(fresh)
        else:
            self.backgrounds.append(nn.Parameter(fresh))

    def _add_norm(self, n: int) -> None:
        self.norm_weight.append(nn.Parameter(self.anchor.new_ones(n)))
        self.norm_bias.append(nn.Parameter(self.anchor.new_zeros(n)))
