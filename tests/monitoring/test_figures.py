"""Figures hold the numbers they were given."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from lightning_transfer.monitoring.figures import (
    accuracy_by_depth,
    confusion_figure,
    curves,
    figure_formats,
    gallery,
    heat_overlay,
)


def test_curves_are_the_history(tmp_path):
    history = [
        {f"{split}/{score}": 0.1 * epoch for split in ("train", "validation") for score in ("accuracy", "loss")}
        for epoch in range(3)
    ]
    figure = curves({"one": history, "two": history[:2]})
    accuracy, loss = figure.axes
    assert [line.get_label() for line in accuracy.lines] == [
        f"{name}, {split}" for name in ("one", "two") for split in ("train", "validation")
    ]
    for axes in (accuracy, loss):
        np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0.0], [2, 0.1], [3, 0.2]])
    figure.savefig(tmp_path / "curves.png")


def test_unfreezing_is_a_vertical_line_between_two_epochs():
    history = [{"train/accuracy": 0.5, "stages/trained": float(count)} for count in (1, 1, 3, 3, 4)]
    for axes in curves({"": history}).axes:
        upright = sorted({line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2})
        assert upright == [2.5, 4.5]
        assert [line.get_label() for line in axes.lines[:1]] == ["train"]


def test_an_epoch_without_a_score_is_a_gap():
    (line, _), _ = (axes.lines for axes in curves({"one": [{}, {"train/accuracy": 0.5}]}).axes)
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 0.5])


def test_a_panel_of_counts_for_each_matrix(tmp_path):
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, (2, 5000))
    matrix = confusion_matrix(labels, predictions)
    figure = confusion_figure({"one": matrix, "two": matrix.T}, ("a", "b", "c"))
    one, two = figure.axes
    assert [text.get_text() for text in one.texts] == [f"{count:,}" for count in matrix.flat]
    assert [text.get_text() for text in two.texts] == [f"{count:,}" for count in matrix.T.flat]
    np.testing.assert_allclose(one.images[0].get_array(), confusion_matrix(labels, predictions, normalize="true"))
    assert (one.get_title(), two.get_title()) == ("one", "two")
    for names in (one.get_xticklabels(), one.get_yticklabels()):
        assert [name.get_text() for name in names] == ["a", "b", "c"]
        assert {name.get_rotation() for name in names} == {0}
    figure.savefig(tmp_path / "confusion.png")


@pytest.mark.parametrize(("classes", "named"), [(40, 40), (150, 50)])
def test_many_classes_have_no_numbers_and_names_that_do_not_overlap(classes, named):
    names = [f"class number {k}" for k in range(classes)]
    figure = confusion_figure({"": np.eye(classes, dtype=np.int64)}, names)
    (axes,) = figure.axes
    assert not axes.texts
    figure.draw_without_rendering()
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == names[:: classes // named]
        boxes = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_more_panels_than_four_go_into_rows_and_a_class_without_images_is_blank():
    figure = confusion_figure({str(k): np.array([[0, 0], [1, 3]]) for k in range(6)}, ("no", "yes"))
    assert [axes.axison for axes in figure.axes] == [True] * 6 + [False] * 2
    np.testing.assert_allclose(figure.axes[5].images[0].get_array(), [[0, 0], [0.25, 0.75]])


def test_heat_lies_over_the_right_image_and_leaves_cold_places_alone(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    heat = np.zeros((20, 30), np.float32)
    heat[5, 25] = 1.0
    figure = heat_overlay(image, heat, "a.jpg", "cats 93.1%")
    plain, heated = figure.axes
    assert (plain.get_title(), heated.get_title()) == ("a.jpg", "cats 93.1%")
    figure.draw_without_rendering()
    assert plain.get_position().x1 < heated.get_position().x0
    for axes in (plain, heated):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
    assert len(plain.images) == 1
    (_, layer) = heated.images
    np.testing.assert_array_equal(layer.get_array(), heat)
    opacity = layer.get_alpha()
    assert opacity[5, 25] > 0.5
    assert np.delete(opacity.ravel(), 5 * 30 + 25).max() == 0
    figure.savefig(tmp_path / "heat.png")


def test_all_formats_can_be_saved(tmp_path):
    figure = curves({"one": [{"train/loss": 1.0}]})
    for suffix in {"png", "jpg", "pdf", "svg", "webp"} & set(figure_formats()):
        figure.savefig(tmp_path / f"figure.{suffix}", format=suffix)
        assert (tmp_path / f"figure.{suffix}").stat().st_size > 0


def test_accuracy_by_depth_is_the_numbers_and_the_choice(tmp_path):
    intervals = [(0.5, 0.7), (0.75, 0.85), (0.78, 1.0)]
    figure = accuracy_by_depth(("stem", "block1", "block2"), (0.6, 0.8, 1.0), intervals, "block1")
    (axes,) = figure.axes
    ((line, _, (bars,)),) = axes.containers
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.6], [1, 0.8], [2, 1.0]])
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], intervals)
    (mark,) = [line for line in axes.lines if line.get_label() == "keep until block1"]
    np.testing.assert_allclose(mark.get_xydata(), [[1, 0.8]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stem", "block1", "block2"]
    figure.savefig(tmp_path / "depth.png")


def test_a_gallery_shows_each_image_over_its_caption(tmp_path):
    image_folder = [np.full((8, 8, 3), value, np.uint8) for value in (0, 50, 100, 150, 200)]
    captions = [f"{number}.jpg\n$1_0 {number}%" for number in range(5)]
    figure = gallery(image_folder, captions, "five")
    figure.savefig(tmp_path / "gallery.png")  # a dollar sign is no mathematics
    assert len(figure.axes) == 8
    for axes, image, caption in zip(figure.axes, image_folder, captions, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.get_title() == caption
    assert not any(axes.images for axes in figure.axes[5:])
    gallery([], [], "none is wrong").savefig(tmp_path / "none.png")
