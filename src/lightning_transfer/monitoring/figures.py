"""Matplotlib figures of arrays and numbers.

Shapes: H W image, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from torchmetrics.utilities.plot import plot_confusion_matrix

History = Sequence[Mapping[str, float]]  # a dict of scores for each epoch
# Okabe and Ito's palette, whose colours also the colour-blind tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def curves(histories: Mapping[str, History]) -> Figure:
    """Plot accuracy and loss by epoch: the figures of Chollet's book, for any number of runs.

    Args:
        histories: By the run's name, which may be empty; epochs with "train/accuracy", "validation/accuracy",
            "train/loss", …. A vertical line shows where "stages/trained" grows: a stage has unfrozen.
    """
    figure = Figure(figsize=(10, 4))
    # Every run draws these; a layout that is computed takes as long as the drawing.
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.13, top=0.91, wspace=0.15)
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
    """Show images in rows of four, each over its caption.

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


def confusion_figure(matrices: Mapping[str, NDArray[np.int64]], class_names: Sequence[str]) -> Figure:
    """Plot how often each class is taken for which, one panel for each matrix, four in a row.

    Colours are shares of the true class, numbers are counts. Above 20 classes there are no numbers, above 60 not
    every class is named.

    Args:
        matrices: By title; (K, K) counts, truth down, prediction across.
        class_names: K names.
    """
    classes = len(class_names)
    numbered = classes <= 20
    longest = max(map(len, class_names))
    side = 1.8 + 0.07 * longest + max(1.4, min(classes, 60) * (0.45 if numbered else 0.2))
    columns = min(len(matrices), 4)
    rows = -(-len(matrices) // columns)
    figure = Figure(figsize=(side * columns, side * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (title, matrix) in zip(panels, matrices.items(), strict=False):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        with warnings.catch_warnings():
            # torchmetrics hands matplotlib a tensor, whose conversion to NumPy 2 warns.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            plot_confusion_matrix(torch.from_numpy(shares), ax=axes, add_text=numbered, cmap="Blues")
        axes.images[0].set_clim(0, 1)
        for text, count, share in zip(axes.texts, matrix.flat, shares.flat, strict=False):
            text.set(text=f"{count:,}", fontsize="medium", color="white" if share > 0.5 else "black")
        named = range(0, classes, -(-classes // 60))
        turned = classes * longest > 24
        axes.set_xticks(named, [class_names[k] for k in named], rotation=90 if turned else 0, fontsize="medium")
        axes.set_yticks(named, [class_names[k] for k in named], rotation=0, fontsize="medium")
        axes.set_title(title)
        axes.set_xlabel("prediction", fontsize="medium")
        axes.set_ylabel("truth", fontsize="medium")
    for axes in panels[len(matrices) :]:
        axes.set_axis_off()
    return figure


def accuracy_by_depth(
    stages: Sequence[str], accuracies: Sequence[float], intervals: Sequence[tuple[float, float]], chosen: str
) -> Figure:
    """Plot the accuracy of a classifier on each stage of a backbone, with its interval.

    Args:
        stages: Their names, from the input on.
        accuracies: A share for each stage.
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


def heat_overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], image_title: str, heat_title: str) -> Figure:
    """Show an image, and to its right the same image under its heat map, transparent where there is no heat.

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
    """Return the suffixes of files that a figure can be saved as, without their dots.

    >>> {"png", "jpg", "pdf", "svg"} <= set(figure_formats())
    True
    """
    return tuple(sorted(FigureCanvasBase.get_supported_filetypes()))
