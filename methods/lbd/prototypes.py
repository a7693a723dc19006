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
    n_new = len(prototypes) - n_old
    if len(prototypes) < 2:
        return prototypes.sum() * 0
    others = torch.ones(n_new, len(prototypes), dtype=torch.bool, device=prototypes.device)
    others = ~(others.triu(n_old) & others.tril(n_old))
    ours = _off_diagonal(prototype_relations(prototypes, n_old), others)
    target = _off_diagonal(template_relations(templates, anchor, n_old), others)
    if form == "rel_mse":
        return F.mse_loss(ours, target)
    return F.kl_div(
        (ours / RELATION_TEMPERATURE).log_softmax(dim=1),
        (target / RELATION_TEMPERATURE).log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def permuted(templates: Tensor, anchor: Tensor) -> Tensor:
    """Templates whose offsets from the anchor have their entries permuted, each class's in an order of its own: as
    long and as spread as before, and without the relations that language gives them. The control that asks whether
    LPD's gain is due to language; it needs no other class's name.

    templates (n, D) unit, anchor (D,) -> (n, D) unit. Draws from PyTorch's global generator.
    """
    orders = torch.stack([torch.randperm(templates.shape[1]) for _ in templates]).to(templates.device)
    return F.normalize(anchor + (templates - anchor).gather(1, orders), dim=1)


def _off_diagonal(relations: Tensor, others: Tensor) -> Tensor:
    """(n_new, n) without each class's relation to itself: (n_new, n - 1)."""
    return relations[others].view(len(relations), -1)
