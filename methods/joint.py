"""Joint training: every class of the protocol labelled at once, in one step. The upper bound.

It sees all images and all labels together, so it is not class-incremental: it bounds what incremental methods can keep.
One joint network serves every protocol of the same class order.
"""

from methods.base import BaseRecipe, Batch, Method, MethodConfig, Term
from methods.published import MIB_TRAINING


class Joint(Method):
    """Cross-entropy on the labels of all classes, in a single step."""

    summary = "all classes at once, in one step: the upper bound, not incremental"
    published = MIB_TRAINING  # as the baseline of MiB and PLOP

    @classmethod
    def base_recipe(cls, config: MethodConfig) -> BaseRecipe:
        return BaseRecipe(view="all")

    def forward(self, batch: Batch) -> dict[str, Term]:
        return self.supervised(batch)
