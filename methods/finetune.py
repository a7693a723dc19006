"""Fine-tuning: plain cross-entropy on the labels of each step, nothing against forgetting. The lower bound.

Old classes are labelled as background in the images of a step, so the network is taught to forget them.
"""

from methods.base import Batch, Method, Term
from methods.published import MIB_TRAINING


class Finetune(Method):
    """Cross-entropy over all slots on whatever the step labels."""

    summary = "plain cross-entropy on each step's labels: the lower bound"
    published = MIB_TRAINING  # as the baseline of MiB and PLOP

    def forward(self, batch: Batch) -> dict[str, Term]:
        return self.supervised(batch)
