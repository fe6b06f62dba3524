"""What a classification task is: its loss, its scores and the activation of its logits.

Shapes: B batch, K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)

from lightning_transfer.callbacks.stop_on_non_finite import no_batches
from lightning_transfer.errors import ModuleError, TrainingError
from lightning_transfer.models.network import Activation, activate
from lightning_transfer.training.auroc import DefinedMulticlassAUROC, DefinedMultilabelAUROC

TaskName = Literal["single_label", "multi_label"]
ClassWeights = Literal["balanced"] | list[float] | None
Loss = Callable[[Tensor, Tensor], Tensor]

# AUROC counts at these thresholds, so that its memory does not grow with the samples. Evenly spaced logits resolve
# confident networks, whose probabilities crowd near 0 and 1.
THRESHOLDS = torch.linspace(-10, 10, 200, dtype=torch.float64).sigmoid().float()
# Samples that wait for an update of the metrics, which costs more than a training step of a head does.
CHUNK = 4096


class Task(nn.Module):
    """Each image has one of K classes: softmax and cross-entropy.

    The training loss smooths labels and weights classes. Weights multiply each sample's loss, and the mean is over
    samples: several processes, or accumulated batches, minimise the same as one large batch. (torch's own mean
    divides by the weights that happen to be in the batch.)

    Labels are (B,) class indices, or (B, K) probabilities ("soft labels", as mixup makes them), which also train;
    scores then count the most probable class.

    Args:
        num_classes: K.
        label_smoothing: Share of the label that is spread evenly over all classes.
        class_weights: K factors, or "balanced", see `balance`.

    Raises:
        ModuleError: A share out of range, or a wrong number of weights.

    >>> task = Task(2, class_weights="balanced")
    >>> task.balance([30, 10], 40)
    >>> task.weight
    tensor([0.6667, 2.0000])
    """

    activation: Activation = "softmax"
    weight: Tensor | None

    def __init__(self, num_classes: int, label_smoothing: float = 0.0, class_weights: ClassWeights = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ModuleError(f"label_smoothing={label_smoothing}: wanted a share from 0 on, below 1.")
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ModuleError(f'class_weights={class_weights!r}: wanted "balanced", or a number for each class.')
        listed = None if class_weights is None or isinstance(class_weights, str) else class_weights
        if listed is not None and (len(listed) != num_classes or min(listed) < 0):
            raise ModuleError(f"class_weights={class_weights}: wanted {num_classes} numbers, none negative.")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        # Not in checkpoints: the arguments and the data determine it.
        weight = None if listed is None else torch.tensor(listed, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)

    def balance(self, counts: Sequence[int], samples: int) -> None:
        """Weigh each class by N / (K · its samples), as scikit-learn's "balanced" does.

        Args:
            counts: Training samples of each class, all positive.
            samples: N.
        """
        self.weight = samples / (len(counts) * torch.tensor(counts, dtype=torch.float32))

    def training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss to minimise, a scalar of at least float32, of (B, K) logits."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        return self._losses(logits, labels, weight, self.label_smoothing).mean()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the plain loss of (B, K) logits, without smoothing and weights, for validation and test."""
        return self._losses(logits.float(), labels, None, 0.0).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn (B, K) logits into (B, K) float32 probabilities."""
        return activate(logits, self.activation)

    def metrics(self) -> dict[str, Metric | MetricCollection]:
        """Make the scores by name; AUROC and F1 are means over the classes.

        AUROC leaves out classes without positives or negatives, and is NaN where no class has both. F1 leaves out
        classes that no image has and none is taken for.
        """
        return {
            "accuracy": MulticlassAccuracy(self.num_classes, average="micro"),
            "auroc": DefinedMulticlassAUROC(self.num_classes, thresholds=THRESHOLDS),
            "f1": MulticlassF1Score(self.num_classes),
        }

    def hard_labels(self, labels: Tensor) -> Tensor:
        """Turn soft labels into those that scores count."""
        return labels.argmax(dim=1) if labels.is_floating_point() else labels

    def _losses(self, logits: Tensor, labels: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
        if labels.is_floating_point():
            labels = labels.to(logits.dtype)
        return F.cross_entropy(logits, labels, weight, reduction="none", label_smoothing=smoothing)


class MultiLabelTask(Task):
    """Each image has any number of K classes: sigmoid and binary cross-entropy.

    Labels are (B, K), 0 or 1, or probabilities in between. Class weights multiply the loss of an image's own
    classes; "balanced" makes each class's positives weigh as much as its negatives. Accuracy and F1 are means over
    the classes, at a probability of 0.5.

    >>> task = MultiLabelTask(2, class_weights="balanced")
    >>> task.balance([10, 20], 40)
    >>> task.weight
    tensor([3., 1.])
    """

    activation: Activation = "sigmoid"

    def balance(self, counts: Sequence[int], samples: int) -> None:
        """Weigh each class's positives by its negatives / its positives."""
        positives = torch.tensor(counts, dtype=torch.float32)
        self.weight = (samples - positives) / positives

    def metrics(self) -> dict[str, Metric | MetricCollection]:
        """Make the scores by name; AUROC as for `Task`, the F1 of a class that no image has is 0."""
        return {
            "accuracy": MultilabelAccuracy(self.num_classes),
            "auroc": DefinedMultilabelAUROC(self.num_classes, thresholds=THRESHOLDS),
            "f1": MultilabelF1Score(self.num_classes),
        }

    def hard_labels(self, labels: Tensor) -> Tensor:
        """Turn soft labels into those that scores count."""
        return (labels > 0.5).long()

    def _losses(self, logits: Tensor, labels: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
        targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weight)


SCORES = ("loss", "accuracy", "auroc", "f1")  # of each task
TASKS: dict[TaskName, type[Task]] = {"single_label": Task, "multi_label": MultiLabelTask}


class EpochScores:
    """The loss and scores of one split over an epoch.

    The metrics are updated every `CHUNK` samples and at the epoch's end: memory stays flat, and a head's training
    step does not pay for an update. Under several processes the scores are those of all samples.

    It is no submodule of the module that it belongs to: weight averaging would average the metrics too.

    Args:
        split: Prefix of the scores' names: "train/accuracy".
        task: Which scores.
        loss: Of (B, K) logits and labels, a mean over samples.
    """

    def __init__(self, split: str, task: Task, loss: Loss) -> None:
        self.split = split
        self.metrics = MetricCollection(task.metrics(), prefix=f"{split}/")
        self.mean_loss = MeanMetric(nan_strategy="disable")  # the default leaves NaN out
        self._loss, self._probabilities, self._hard_labels = loss, task.probabilities, task.hard_labels
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._samples = 0  # that wait
        self._updated = False

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count (B, K) logits and their labels."""
        self._waiting.append((logits.detach(), labels))
        self._samples += len(labels)
        if self._samples >= CHUNK:
            self._update()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores of all that was added, by name ("train/loss", …), and reset.

        A score that is not defined, such as the AUROC of images of one class, is left out.

        Raises:
            TrainingError: Nothing was added.
        """
        self._update()
        if not self._updated:
            raise no_batches(self.split)
        defined = {name: value for name, value in self.metrics.compute().items() if not value.isnan()}
        scores = {f"{self.split}/loss": self.mean_loss.compute(), **defined}
        self.reset()
        return scores

    def reset(self) -> None:
        """Forget what was added."""
        self._waiting.clear()
        self._samples = 0
        self._updated = False
        self.mean_loss.reset()
        self.metrics.reset()

    def _update(self) -> None:
        if not self._waiting:
            return
        logits = torch.cat([logits for logits, _ in self._waiting]).float()
        labels = torch.cat([labels for _, labels in self._waiting])
        self._waiting.clear()
        self._samples = 0
        # One value a sample, since with this nan_strategy torchmetrics ignores weights.
        for metric in (self.metrics, self.mean_loss):
            metric.to(logits.device)
        self.mean_loss.update(self._loss(logits, labels).expand(len(labels)))
        self.metrics.update(self._probabilities(logits), self._hard_labels(labels))
        self._updated = True


def watched(scores: Mapping[str, Tensor], monitor: str) -> float:
    """Return the score that a plateau watches.

    Raises:
        TrainingError: It is not defined for these validation images.
    """
    if monitor not in scores:
        raise TrainingError(
            f"scheduler_monitor={monitor} is not defined for the validation images, which are of one class: "
            "validate on more of them (limit_val_batches), or let the plateau watch validation/loss."
        )
    return float(scores[monitor])
