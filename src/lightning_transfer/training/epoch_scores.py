"""Loss, accuracy, AUROC and F1 over one epoch of one split.

Shapes: B batch, K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from lightning_transfer.errors import TrainingError

Loss = Callable[[Tensor, Tensor], Tensor]


def no_batches(split: str) -> TrainingError:
    """What to say of a loader that is empty."""
    return TrainingError(
        f"Not one batch of {split} data came: wanted at least one. Is the data set empty, or does drop_last leave "
        "nothing of it?"
    )


class EpochScores(nn.Module):
    """Keeps an epoch's logits and computes the scores once, at its end.

    An update of three metrics after every batch would cost more than a step of the head does. Under several
    processes the scores are those of all samples together.

    Args:
        split: Prefix of the scores' names: "train/accuracy".
        num_classes: K.
    """

    def __init__(self, split: str, num_classes: int) -> None:
        super().__init__()
        self.split = split
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "auroc": MulticlassAUROC(num_classes),
                "f1": MulticlassF1Score(num_classes),
            },
            prefix=f"{split}/",
        )
        self.loss = MeanMetric(nan_strategy="disable")  # by default a NaN counts as nothing
        self._batches: list[tuple[Tensor, Tensor]] = []

    @property
    def names(self) -> tuple[str, ...]:
        """What `compute` will give."""
        return (f"{self.split}/loss", *map(str, self.metrics.keys()))

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Keeps (B, K) logits and (B,) labels until the end of the epoch."""
        self._batches.append((logits.detach(), labels))

    def compute(self, loss: Loss) -> dict[str, Tensor]:
        """The scores of all that was added, by name ("train/loss", …); then begins anew.

        AUROC and F1 are means over the classes.

        Raises:
            TrainingError: Nothing was added.
        """
        if not self._batches:
            raise no_batches(self.split)
        logits = torch.cat([logits for logits, _ in self._batches]).float()
        labels = torch.cat([labels for _, labels in self._batches])
        self.loss.update(loss(logits, labels), weight=len(labels))
        self.metrics.update(logits.softmax(dim=1), labels)
        scores = {f"{self.split}/loss": self.loss.compute(), **self.metrics.compute()}
        self.reset()
        return scores

    def reset(self) -> None:
        """Forgets what was added."""
        self._batches.clear()
        self.loss.reset()
        self.metrics.reset()
