"""Numbers in, matplotlib figures out.

Shapes: H W image, K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

History = Sequence[Mapping[str, float]]  # a dict of scores an epoch
# Okabe and Ito's palette, whose colours also the colour-blind tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def curves(histories: Mapping[str, History]) -> Figure:
    """Accuracy and loss by epoch: the figures of Chollet's book, for any number of runs.

    Args:
        histories: By the run's name, which may be empty; epochs with "train/accuracy", "validation/accuracy",
            "train/loss", …. An upright line shows where "stages/trained" grows: a stage has unfrozen.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for (name, history), colour in zip(histories.items(), COLOURS * len(histories), strict=False):
            epochs = range(1, len(history) + 1)
            for split, style in (("train", ":"), ("validation", "-")):
                values = [epoch.get(f"{split}/{score}", np.nan) for epoch in history]
                axes.plot(
                    epochs, values, style, marker=".", color=colour, label=f"{name}, {split}" if name else split
                )
            trained = [epoch.get("stages/trained", 0) for epoch in history]
            for epoch in epochs[1:]:
                if trained[epoch - 1] > trained[epoch - 2]:
                    axes.axvline(epoch - 0.5, color=colour, linewidth=0.8, alpha=0.6)
        axes.set(xlabel="epoch", title=score)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if score == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.legend(fontsize="small")
    return figure


def gallery(images: Sequence[NDArray[np.uint8]], captions: Sequence[str], title: str) -> Figure:
    """Images in rows of four, each with its caption below it.

    Args:
        images: (H, W, 3) each.
        captions: As many.
        title: Above them all.
    """
    rows = max(1, -(-len(images) // 4))
    figure = Figure(figsize=(11, 0.6 + 3.1 * rows) if images else (11, 1), dpi=80, layout="constrained")
    figure.suptitle(title)
    for axes in figure.subplots(rows, 4, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image)
        axes.set_title(caption, y=-0.05, verticalalignment="top", fontsize="small", parse_math=False)
    return figure


def confusion_matrices(matrices: Mapping[str, NDArray[np.int64]], class_names: Sequence[str]) -> Figure:
    """How often each class is taken for which, a panel a run.

    Args:
        matrices: By the run's name; (K, K) counts, truth down, prediction across.
        class_names: K names.
    """
    classes = len(class_names)
    side = max(2.8, 0.5 * classes + 1.6)
    figure = Figure(figsize=(side * len(matrices), side), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(matrices)))
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for truth in range(classes):
            for prediction in range(classes):
                dark = shares[truth, prediction] > 0.5
                text = f"{matrix[truth, prediction]:,}"
                axes.text(prediction, truth, text, ha="center", va="center", color="white" if dark else "black")
        axes.set_xticks(range(classes), class_names, rotation=0 if classes < 4 else 90)
        axes.set_yticks(range(classes), class_names, rotation=90 if classes < 4 else 0, va="center")
        axes.set(title=name, xlabel="prediction", ylabel="truth")
    return figure


def accuracy_by_depth(
    stages: Sequence[str], accuracies: Sequence[float], intervals: Sequence[tuple[float, float]], chosen: str
) -> Figure:
    """Accuracy of a classifier on each stage of a backbone, with its interval.

    Args:
        stages: Their names, from the input on.
        accuracies: A share a stage.
        intervals: Of the shares, low and high.
        chosen: The stage that is marked.
    """
    figure = Figure(figsize=(max(5, 0.7 * len(stages) + 1), 4), layout="constrained")
    axes = figure.subplots()
    values, bounds = np.array(accuracies), np.array(intervals)
    depths = range(len(stages))
    low, high = np.clip(values - bounds[:, 0], 0, None), np.clip(bounds[:, 1] - values, 0, None)
    axes.errorbar(depths, values, (low, high), marker="o", capsize=3, color=COLOURS[0])
    mark = list(stages).index(chosen)
    axes.plot(mark, values[mark], "o", markersize=11, color=COLOURS[5], label=f"keep until {chosen}")
    axes.set_xticks(depths, stages, rotation=0 if len(stages) < 8 else 45)
    axes.set(xlabel="last stage that is kept", ylabel="validation accuracy, 95 % interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def confusion(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(K, K) counts, truth down, prediction across.

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def heat_overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], image_title: str, heat_title: str) -> Figure:
    """An image, and to its right the same with heat over it; where there is none, the image stays as it is.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in [0, 1].
        image_title: Above the image.
        heat_title: Above the one with heat; room for two lines.
    """
    figure = Figure(figsize=(7, 4), layout="compressed")
    plain, heated = figure.subplots(1, 2)
    for axes, title in ((plain, image_title), (heated, heat_title)):
        axes.imshow(image)
        axes.set_title(title)
        axes.set_axis_off()
    heated.imshow(heat, cmap="autumn_r", vmin=0, vmax=1, alpha=0.8 * heat)
    return figure


def figure_formats() -> tuple[str, ...]:
    """The suffixes of files that a figure can be saved as, without their dots.

    >>> {"png", "jpg", "pdf", "svg"} <= set(figure_formats())
    True
    """
    return tuple(sorted(FigureCanvasBase.get_supported_filetypes()))
