"""The options of LBD. The abstract fixes no value: defaults are ours, or those of MBS where we keep its rules."""

from dataclasses import dataclass

from methods.base import MethodConfig
from methods.lbd.background import AGGREGATIONS
from methods.lbd.prototypes import FORMS, GRAPHS
from methods.nn.clip import ADAPTATIONS
from protocols.errors import InputError, unknown


@dataclass
class LbdConfig(MethodConfig):
    """Options of LBD."""

    # encoder
    encoder_adapt: str = "vv"  # how CLIP's last block becomes dense: vv, v_only, vpt or none
    encoder_tune: str = "full"  # what of the image tower is trained: full, last_k, vpt (its prompts alone) or frozen
    encoder_last: int = 4  # blocks trained by encoder_tune=last_k
    encoder_weights: str = "clip"  # random: an image tower that has met no language, as a control
    head: str = "mask_transformer"  # or cosine: no decoder, the encoder's patches are matched as they are
    # prototypes
    proto: str = "prompt+res"  # class prototype: soft prompt (prompt), with a residual (prompt+res), or free
    context: str = "a photo of a"  # words that the soft prompt starts from, or a number of random vectors; CoOp: 16
    fresh_context: bool = True  # every step starts its context anew; False: from the last one
    old_proto: str = "frozen"  # prototypes of old classes: frozen or tuned
    single_template: bool = False  # True: "a photo of a {}." alone instead of the mean over all templates
    # LPD
    lpd: str = "rel_kl"  # rel_kl, rel_mse, anchor, init_only (no loss, prototypes start at the templates) or off
    lpd_weight: float = 0.1  # this and mmbd_weight: docs/tuning.md
    lpd_graph: str = "seen"  # partners of a new class: all seen classes, or step: those of its step
    lpd_permuted: bool = False  # True: relations of other classes' text features, as a control
    # MMBD
    backgrounds: int = 4  # K, prototypes of the background
    bg_agg: str = "lse"  # or max
    bg_bank: str = "carry"  # what the increments do with the bank: carry it on, grow it by one, or reinit it
    mmbd: bool = True
    mmbd_weight: float = 0.01
    mmbd_on: str = "input"  # where features are pooled: input (of the decoder) or decoded
    mmbd_extra: float = 0.1  # weight of the two terms between prototypes, within MMBD
    # old classes
    kd: str = "mbs"  # mbs, mib (unbiased distillation and cross-entropy, no pseudo-labels) or none
    od: float | None = None  # weight of the output distillation; None: MBS's 25 on VOC, 50 on ADE20K (MiB's own is 10)
    fd: float = 1.0  # weight of the feature distillation of kd=mbs
    threshold: float = 0.7  # least probability of a pseudo-label

    @property
    def random_context(self) -> int | None:
        """The number of vectors of a context that starts at random; None for one that starts from words."""
        try:
            return int(self.context)
        except ValueError:
            return None

    def check(self) -> None:
        """Raises InputError for a value that is none of the choices."""
        choices = {
            "encoder_adapt": ADAPTATIONS,
            "encoder_tune": ("full", "last_k", "vpt", "frozen"),
            "encoder_weights": ("clip", "random"),
            "head": ("mask_transformer", "cosine"),
            "proto": ("prompt", "prompt+res", "free"),
            "old_proto": ("frozen", "tuned"),
            "lpd": FORMS,
            "lpd_graph": GRAPHS,
            "bg_agg": AGGREGATIONS,
            "bg_bank": ("carry", "grow", "reinit"),
            "mmbd_on": ("input", "decoded"),
            "kd": ("mbs", "mib", "none"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise unknown(f"lbd.{name}", getattr(self, name), valid)
        if not self.context.strip() or (self.random_context is not None and self.random_context < 1):
            raise InputError(f"lbd.context={self.context!r}: give words, or a number of at least 1")
        for name in ("backgrounds", "encoder_last"):
            if getattr(self, name) < 1:
                raise InputError(f"lbd.{name}={getattr(self, name)}: give at least 1")
        if self.encoder_tune == "vpt" and self.encoder_adapt != "vpt":
            raise InputError("lbd.encoder_tune=vpt trains visual prompts: it needs lbd.encoder_adapt=vpt")
        if self.proto == "prompt" and self.lpd == "init_only":
            raise InputError("lbd.lpd=init_only needs residuals, which lbd.proto=prompt does not have")
        if self.lpd_permuted and self.lpd in ("off", "init_only"):
            raise InputError(f"lbd.lpd_permuted=true permutes what LPD follows: lbd.lpd={self.lpd} does not have it")
        if self.mmbd_on == "decoded" and self.head == "cosine":
            raise InputError("lbd.mmbd_on=decoded needs lbd.head=mask_transformer")
