"""Area under the ROC curve, a mean over the classes for which it is defined.

Shapes: K classes, T thresholds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAUROC, MultilabelAUROC


class DefinedMulticlassAUROC(MulticlassAUROC):
    """torchmetrics' counts at thresholds, and the mean of `mean_area`; each image has one class."""

    confmat: Tensor

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics' own
        """Return a scalar; NaN where no class has both positives and negatives."""
        return mean_area(self.confmat)


class DefinedMultilabelAUROC(MultilabelAUROC):
    """The same for any number of classes an image."""

    confmat: Tensor

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics' own
        """Return a scalar; NaN where no class has both positives and negatives."""
        return mean_area(self.confmat)


def mean_area(counts: Tensor) -> Tensor:
    """Return the mean area under the ROC curves of the classes that have positives and negatives; NaN for none.

    torchmetrics takes 0 for the others. It also leaves out what is beyond the outermost thresholds, so that a
    network which is right and certain of everything gets 0; a curve begins at (0, 0) here and ends at (1, 1).

    Args:
        counts: (T, K, 2, 2), by rising threshold, class, truth and prediction.

    >>> certain = torch.tensor([[[3, 0], [0, 2]]]).expand(2, 2, 2, 2)
    >>> mean_area(certain)
    tensor(1.)
    >>> mean_area(torch.tensor([[[[3, 0], [0, 2]], [[5, 0], [0, 0]]]])), mean_area(torch.zeros(9, 2, 2, 2))
    (tensor(1.), tensor(nan))
    """
    totals = counts[0].sum(dim=-1).T  # negatives, positives
    defined = (totals > 0).all(dim=0)
    curves = []
    for truth in (1, 0):
        rates = counts[:, defined, truth, 1] / totals[truth, defined]
        # Before the first threshold all are taken for positive, after the last one none is.
        curves.append(torch.cat([torch.ones_like(rates[:1]), rates, torch.zeros_like(rates[:1])]))
    true, false = curves
    return -torch.trapezoid(true, false, dim=0).mean()
