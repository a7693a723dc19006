"""LPD: the relations between class prototypes follow those between hand-crafted text features.

The abstract of LBD calls text features "topological templates" that guide the disentangling of new prototypes; we read
this as: the graph of pairwise similarities among text features is the target of the graph among prototypes. Equation
numbers are those of README.md beside this file. Every vector is (D,) in the joint space of CLIP; "foreground" counts
classes without the background, old ones first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FORMS = ("rel_kl", "rel_mse", "anchor", "init_only", "off")
GRAPHS = ("seen", "step")
RELATION_TEMPERATURE = 0.1


def template_relations(templates: Tensor, anchor: Tensor, n_old: int) -> Tensor:
    """Cosines between text features once their common direction is removed (E3).

    Text features of CLIP crowd in a narrow cone; without the anchor, the mean of some of them, their relations spread.
    templates (n, D) unit; anchor (D,). Returns rows of the new foreground, (n - n_old, n).
    """
    centred = F.normalize(templates - anchor, dim=1)
    return centred[n_old:] @ centred.T


def prototype_relations(prototypes: Tensor, n_old: int) -> Tensor:
    """Cosines between each new prototype and all seen ones (E4). The gradient reaches new prototypes alone.

    prototypes (n, D) unit, the first n_old of old classes. Returns (n - n_old, n).
    """
    new = prototypes[n_old:]
    return new @ torch.cat([prototypes[:n_old].detach(), new]).T


def lpd_loss(
    form: str, prototypes: Tensor, templates: Tensor, anchor: Tensor, n_old: int, graph: str = "seen"
) -> Tensor:
    """How far the new prototypes are from the topology of their templates, a float32 scalar.

    * "rel_kl": mean over new classes of KL(softmax(S_text / 0.1) || softmax(S_prototype / 0.1)) over partners (E5);
    * "rel_mse": mean squared difference of the similarities (E6);
    * "anchor": mean of 1 - cos(prototype, template): position instead of topology.

    The partners of a class are all other seen classes, or with graph="step" the other classes of its step. Without
    partners the loss is 0. prototypes, templates (n, D) unit, the first n_old of old classes; anchor (D,).
    """
    if form == "anchor":
        return (1 - (prototypes[n_old:] * templates[n_old:]).sum(dim=1)).mean()
    if graph == "step":
        prototypes, templates, n_old = prototypes[n_old:], templates[n_old:], 0
    if len(prototypes) < 2:
        return prototypes.sum() * 0
    ours = _without_own(prototype_relations(prototypes, n_old), n_old)
    target = _without_own(template_relations(templates, anchor, n_old), n_old)
    if form == "rel_mse":
        return F.mse_loss(ours, target)
    return F.kl_div(
        (ours / RELATION_TEMPERATURE).log_softmax(dim=1),
        (target / RELATION_TEMPERATURE).log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def dealt(templates: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    """Text features dealt out anew, so that no class has its own: the control that asks whether LPD's gain is due to
    language. They stay real text features, as related as before, of other classes; no name of the future is needed.

    templates (n, D) of the classes of a step, spare (D,) left over from the step before. Returns what the classes get,
    (n, D), and what is left over for the next step, (D,). Draws from PyTorch's global generator.
    """
    pool = torch.cat([templates, spare[None]])
    cycle = torch.randperm(len(pool), device="cpu")  # one cycle through all: each gets the next one's, none its own
    after = torch.empty_like(cycle)
    after[cycle] = cycle.roll(-1)
    *given, left = pool[after.to(pool.device)]
    return torch.stack(given), left


def _without_own(relations: Tensor, n_old: int) -> Tensor:
    """(n_new, n) without each class's relation to itself: (n_new, n - 1)."""
    n_new, n = relations.shape
    places = torch.arange(n - 1, device=relations.device).expand(n_new, -1)
    own = torch.arange(n_old, n, device=relations.device)[:, None]
    return relations.gather(1, places + (places >= own))
