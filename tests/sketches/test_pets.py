"""Drawings depend on the generator alone, stay in their frame, and tell their label by shape, not by colour."""

import io

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lightning_transfer.sketches.creatures import CREATURES
from lightning_transfer.sketches.pets import draw_cat, draw_dog

DRAW = {"cat": draw_cat, "dog": draw_dog, **CREATURES}


@pytest.mark.parametrize("name", DRAW)
def test_the_generator_alone_decides(name):
    for size in (150, 64):
        (one, box), (again, box_again) = (DRAW[name](np.random.default_rng(3), size) for _ in range(2))
        assert one.mode == "RGB"
        assert one.size == (size, size)
        assert np.array_equal(np.asarray(one), np.asarray(again))
        assert box == box_again
        left, top, right, bottom = box
        assert 0 <= left < right <= size
        assert 0 <= top < bottom <= size
        assert max(right - left, bottom - top) >= size // 5
    other, _ = DRAW[name](np.random.default_rng(4), 150)
    assert not np.array_equal(np.asarray(DRAW[name](np.random.default_rng(3), 150)[0]), np.asarray(other))


def test_global_randomness_does_not_enter():
    np.random.seed(0)  # what must not matter
    one, _ = draw_dog(np.random.default_rng(1))
    np.random.seed(1)
    assert np.array_equal(np.asarray(one), np.asarray(draw_dog(np.random.default_rng(1))[0]))


def test_there_are_twenty_other_classes_and_no_cats_or_dogs_among_them():
    assert len(CREATURES) >= 20
    assert not CREATURES.keys() & {"cat", "cats", "dog", "dogs"}


@pytest.mark.nightly
def test_colour_and_place_do_not_tell_a_cat_from_a_dog():
    """Linear classifiers on colours by place, on thumbnails, and on the box: near chance on images not seen."""
    colours, thumbnails, places, labels = [], [], [], []
    for number in range(600):
        image, box = (draw_cat, draw_dog)[number % 2](np.random.default_rng(number), 150)
        blocks = np.asarray(image).reshape(3, 50, 3, 50, 3)
        colours.append([*blocks.mean((1, 3)).ravel(), *blocks.std((1, 3)).ravel()])
        thumbnails.append(np.asarray(image.resize((8, 8))).ravel())
        places.append([*box, box[2] - box[0], box[3] - box[1]])
        labels.append(number % 2)
    for features in (colours, thumbnails, places):
        scaled = (np.array(features) - np.mean(features, axis=0)) / np.std(features, axis=0)
        model = LogisticRegression(C=0.01, max_iter=1000).fit(scaled[:400], labels[:400])
        assert model.score(scaled[400:], labels[400:]) < 0.65  # chance and four standard deviations


def test_a_image_is_small_on_disk():
    buffer = io.BytesIO()
    draw_cat(np.random.default_rng(0), 150)[0].save(buffer, "JPEG", quality=90)
    assert buffer.tell() < 30_000
