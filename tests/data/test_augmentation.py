"""What augmentation does to images, and that nothing but (seed, epoch, sample) decides it."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from lightning_transfer import Augmentation, ImageFolderDataModule
from lightning_transfer.data.augmentation import FILL
from lightning_transfer.data.dataset import AugmentedDataset
from lightning_transfer.errors import DataError

NOTHING = Augmentation(flip=False, rotation=0, shift=0, shear=0, zoom=0, colour=0)


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def results(augmentation, image, number=40):
    return [np.asarray(augmentation(image, [0, epoch, 0])) for epoch in range(number)]


def test_the_default_is_the_books_set():
    assert dataclasses.asdict(Augmentation()) == {
        "flip": True,
        "rotation": 40,
        "shift": 0.2,
        "shear": 11.5,
        "zoom": 0.2,
        "colour": 0,
        "trivial": False,
        "erase": 0,
        "mixup": 0,
        "cutmix": 0,
    }


def test_without_any_of_it_a_image_stays_what_it_is(image):
    assert all(np.array_equal(result, np.asarray(image)) for result in results(NOTHING, image, 5))


def test_flip_alone_mirrors_one_image_in_two(image):
    plain, mirrored = np.asarray(image), np.asarray(image)[:, ::-1]
    flipped = [np.array_equal(r, mirrored) for r in results(dataclasses.replace(NOTHING, flip=True), image, 400)]
    kept = [np.array_equal(r, plain) for r in results(dataclasses.replace(NOTHING, flip=True), image, 400)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 150 < sum(flipped) < 250  # five standard deviations


def test_shift_moves_by_at_most_its_share():
    spot = np.zeros((50, 50, 3), np.uint8)
    spot[25, 25] = 255
    places = [
        np.argwhere((result == 255).all(axis=2))[0] - 25
        for result in results(dataclasses.replace(NOTHING, shift=0.2), Image.fromarray(spot), 200)
    ]
    assert np.abs(places).max() == 10
    assert {tuple(np.sign(place)) for place in places} >= {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_zoom_and_rotation_keep_within_their_limits():
    disc = np.zeros((101, 101, 3), np.uint8)
    rows, columns = np.mgrid[-50:51, -50:51]
    disc[rows**2 + columns**2 <= 30**2] = 255
    areas = [
        (result > 127).all(axis=2).sum() / (disc > 127).all(axis=2).sum()
        for result in results(dataclasses.replace(NOTHING, zoom=0.2), Image.fromarray(disc), 200)
    ]
    assert 0.8**2 * 0.97 < min(areas) < 0.72
    assert 1.35 < max(areas) < 1.2**2 * 1.03

    hand = np.zeros((101, 101, 3), np.uint8)
    hand[10:50, 50] = 255
    turned = results(dataclasses.replace(NOTHING, rotation=30), Image.fromarray(hand), 200)
    tips = [np.argwhere((r == r[:20].max()).all(axis=2))[0] - 50 for r in turned]
    angles = np.degrees([np.arctan2(column, -row) for row, column in tips])
    assert 25 < angles.max() < 33
    assert -33 < angles.min() < -25


def test_colour_changes_no_shape(image):
    gray = Image.new("RGB", (8, 8), (100, 100, 100))
    values = {tuple(result[0, 0]) for result in results(dataclasses.replace(NOTHING, colour=0.2), gray)}
    assert len(values) > 10
    assert all(75 <= min(value) <= max(value) <= 125 for value in values)


def test_what_was_outside_is_a_neutral_gray():
    white = Image.new("RGB", (20, 20), (255, 255, 255))
    moved = [r for r in results(dataclasses.replace(NOTHING, shift=0.5), white) if (r != 255).any()]
    assert all(tuple(result[(result != 255).any(axis=2)][0]) == FILL for result in moved)
    assert moved


def test_erasing_fills_a_rectangle_in_the_share_of_images():
    white = Image.new("RGB", (40, 40), (255, 255, 255))
    found = results(dataclasses.replace(NOTHING, erase=0.5), white, 200)
    areas = []
    for result in found:
        filled = (result != 255).any(axis=2)
        assert (result[filled] == FILL).all()
        rows, columns = filled.any(axis=1), filled.any(axis=0)
        assert filled.sum() == rows.sum() * columns.sum(), "a rectangle"
        areas.append(filled.mean())
    assert 65 < sum(area > 0 for area in areas) < 135  # five standard deviations
    assert max(areas) < 0.36


def test_erasing_and_trivial_augment_are_torchvisions(image):
    for flags, transform in (
        ({"trivial": True}, v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR, fill=list(FILL))),
        ({"erase": 0.7}, v2.RandomErasing(0.7, value=list(FILL))),
    ):
        augmentation = dataclasses.replace(NOTHING, **flags)
        for epoch in range(30):
            state = np.random.SeedSequence([0, epoch, 0]).generate_state(1, np.uint64)[0]
            torch.manual_seed(int(state))
            expected = transform(v2.functional.pil_to_tensor(image) if "erase" in flags else image)
            expected = expected.permute(1, 2, 0).numpy() if "erase" in flags else np.asarray(expected)
            np.testing.assert_array_equal(np.asarray(augmentation(image, [0, epoch, 0])), expected)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 10**6))
def test_seed_epoch_and_sample_alone_decide(seed, epoch, sample):
    image = Image.effect_noise((24, 24), 90).convert("RGB")
    flags = {"colour": 0.3, "trivial": True, "erase": 0.5}
    torch.manual_seed(1)
    once = Augmentation(**flags)(image, [seed, epoch, sample])
    torch.manual_seed(2)
    assert once == Augmentation(**flags)(image, [seed, epoch, sample])
    assert once.size == image.size


def test_what_others_draw_from_torch_is_left_alone(image):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Augmentation()(image, [1, 2, 3])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rotation": -1}, "augmentation.rotation=-1: wanted a number from 0 to 180"),
        ({"shift": 1.5}, "augmentation.shift=1.5: .* to 1"),
        ({"zoom": 1}, "augmentation.zoom=1: .* to 0.99"),
        ({"colour": float("nan")}, "augmentation.colour=nan"),
        ({"rotation": "40"}, "augmentation.rotation='40': wanted a number from 0 to 180"),
        ({"erase": 2}, "augmentation.erase=2: wanted a number from 0 to 1"),
        ({"mixup": -0.2}, "augmentation.mixup=-0.2: wanted a number from 0 to 100"),
        ({"cutmix": None}, "augmentation.cutmix=None: wanted"),
        ({"flip": "yes"}, "augmentation.flip='yes': wanted one of True, False"),
        ({"trivial": 1}, "augmentation.trivial=1: wanted one of True, False"),
    ],
)
def test_a_value_out_of_range_is_named(flags, message):
    with pytest.raises(DataError, match=message):
        Augmentation(**flags)


def data(image_folder, **arguments):
    defaults = {"image_size": 16, "batch_size": 5, "num_workers": 0}
    module = ImageFolderDataModule(str(image_folder), **(defaults | arguments))
    module.setup()
    return module


def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_training_images_are_new_in_each_epoch_and_others_never(image_folder):
    module = data(image_folder)
    first, second = (epoch_of(module.train_dataloader(), epoch)[0] for epoch in (0, 1))
    plain = torch.stack([image for image, _ in module.dataset("train")])
    distances = [(plain.float() - image.float()).abs().mean((1, 2, 3)).min() for image in (*first, *second)]
    assert sum(distance > 0 for distance in distances) >= 46, "48 images of two epochs"
    dataset = AugmentedDataset(module.dataset("train"), Augmentation(), 0)
    assert not torch.equal(dataset[0, 7][0], dataset[1, 7][0])
    loaders = {
        "validation": [module.val_dataloader()],
        "test": [module.test_dataloader(), module.predict_dataloader()],
    }
    for split, eval_mode in loaders.items():
        plain_split = module.dataset(split)
        order = np.random.default_rng(0).permutation(12).tolist() if split == "validation" else range(12)
        expected = torch.stack([plain_split[i][0] for i in order])
        assert all(torch.equal(epoch_of(loader, 3)[0], expected) for loader in eval_mode)
    off = epoch_of(data(image_folder, augmentation=None).train_dataloader(), 0)[0]
    assert {image.numpy().tobytes() for image in off} == {image.numpy().tobytes() for image in plain}


def test_batches_and_workers_do_not_enter(image_folder):
    expected = [epoch_of(data(image_folder, seed=4).train_dataloader(), epoch) for epoch in (0, 1, 2)]
    for arguments in ({"num_workers": 1}, {"num_workers": 2}, {"batch_size": 7}):
        loader = data(image_folder, seed=4, **arguments).train_dataloader()
        for epoch in (2, 0, 1):  # workers that live on must learn of the epoch
            images, labels = epoch_of(loader, epoch)
            assert torch.equal(images, expected[epoch][0])
            assert torch.equal(labels, expected[epoch][1])
    other = epoch_of(data(image_folder, seed=5).train_dataloader(), 0)
    assert not torch.equal(other[0], expected[0][0])
