"""The data module's loaders, on images whose colour tells their class."""

import shutil
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_transfer import (
    CatsAndDogsDataModule,
    ImageDataModule,
    ImageFolderDataModule,
    ImageIndex,
    ImageTableDataModule,
    SketchPetsDataModule,
)
from lightning_transfer.data import left_out
from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.data.index import Samples
from lightning_transfer.data.splitting import with_test
from lightning_transfer.errors import DataError


def make(root, **arguments):
    defaults = {"image_size": 16, "batch_size": 5, "num_workers": 0}
    data = ImageFolderDataModule(str(root), **(defaults | arguments))
    data.setup()
    return data


def skipping(root, **arguments):
    return make(root, on_bad_image="skip", left_out_report=str(root.with_suffix(".csv")), **arguments)


def epoch_of(loader, epoch):
    """All images and labels of one epoch; Lightning makes the same call."""
    loader.sampler.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def same(one, other):
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@pytest.fixture
def damaged(image_folder, tmp_path):
    """The images, of which one to train and one to test on is cut off."""
    root = shutil.copytree(image_folder, tmp_path / "damaged")
    for path in (root / "train/dogs/dogs.3.jpg", root / "test/cats/cats.1.jpg"):
        path.write_bytes(path.read_bytes()[:300])
    return root


def test_batches_have_the_promised_shapes_and_dtypes(image_folder):
    data = make(image_folder)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 4]
    for images, labels in batches:
        assert images.shape == (len(labels), 3, 16, 16)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert (data.class_names, data.num_classes) == (("cats", "dogs"), 2)
    assert data.splits == ("train", "validation", "test")
    assert [len(data.dataset(split)) for split in data.splits] == [24, 12, 12]


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_labels_agree_with_the_colour_of_the_images(image_folder, resize):
    data = make(image_folder, resize=resize)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, labels = epoch_of(loader, 0)
        red, _, blue = images.float().mean((2, 3)).T
        assert torch.equal((blue > red).long(), labels), "cats are drawn red, dogs blue"


def test_the_order_to_train_in_depends_on_seed_and_epoch_alone(image_folder):
    loader = make(image_folder, seed=1).train_dataloader()
    epochs = [epoch_of(loader, epoch) for epoch in (0, 1)]
    assert not same(*epochs)
    assert not same(epoch_of(make(image_folder, seed=2).train_dataloader(), 0), epochs[0])
    for workers in (0, 2):
        loader = make(image_folder, seed=1, num_workers=workers).train_dataloader()
        for epoch in (1, 0):  # the other way round, so that epochs before cannot matter
            assert same(epoch_of(loader, epoch), epochs[epoch])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_takes_the_images_in_order_and_validation_in_a_fixed_mixed_one(image_folder, split):
    data = make(image_folder)
    loaders = {
        "validation": [
            data.val_dataloader(),
            data.loader("validation"),
            make(image_folder, seed=9).val_dataloader(),
        ],
        "test": [data.test_dataloader(), data.predict_dataloader()],
    }
    dataset = data.dataset(split)
    order = np.random.default_rng(0).permutation(12).tolist() if split == "validation" else range(12)
    samples = [dataset[i] for i in order]
    expected = torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples])
    for loader in loaders[split]:
        assert same(epoch_of(loader, 0), expected)
        assert same(epoch_of(loader, 3), expected)


def test_the_first_validation_images_are_of_all_classes(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.new("RGB", (8, 8), (number, ord(name), 0)).save(tmp_path / name / f"{number}.png")
    data = make(tmp_path, batch_size=16, split=(0.4, 0.3, 0.3))
    _, labels = next(iter(data.val_dataloader()))
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert data.index.splits["validation"].labels == tuple(label for label in range(4) for _ in range(12))


def test_crop_and_squash_differ_and_the_size_is_kept(image_folder):
    squashed, cropped = (make(image_folder, resize=resize).dataset("test")[0][0] for resize in ("squash", "crop"))
    assert squashed.shape == cropped.shape == (3, 16, 16)
    assert not torch.equal(squashed, cropped)


def test_a_folder_that_is_not_split_is_split_by_seed_and_shares(image_folder):
    first, again, other = (
        make(image_folder / "train", seed=order, split_seed=seed) for order, seed in ((0, 0), (1, 0), (0, 1))
    )
    assert [len(first.dataset(split)) for split in first.splits] == [16, 4, 4]
    assert first.index == again.index
    assert first.index.splits != other.index.splits
    two = make(image_folder / "train", split=(0.75, 0.25, 0.0))
    assert [len(two.dataset(split)) for split in two.splits] == [18, 6]
    with pytest.raises(DataError, match="has no split 'test'; it has train, validation"):
        two.test_dataloader()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_stops_the_epoch_and_is_named(damaged, workers):
    with pytest.raises(UnreadableImageError, match=r"train/dogs/dogs\.3\.jpg cannot be read.*on_bad_image"):
        list(make(damaged, num_workers=workers).train_dataloader())


def test_skip_leaves_out_exactly_the_bad_images_and_tells(damaged, image_folder, monkeypatch):
    told = []
    monkeypatch.setattr(left_out, "rank_zero_info", told.append)
    monkeypatch.setattr(left_out, "rank_zero_warn", told.append)
    data = skipping(damaged)
    bad = ["train/dogs/dogs.3.jpg", "test/cats/cats.1.jpg"]
    for split, whole in make(image_folder).index.splits.items():
        expected = [pair for pair in zip(whole.paths, whole.labels, strict=True) if pair[0] not in bad]
        kept = data.index.splits[split]
        assert list(zip(kept.paths, kept.labels, strict=True)) == expected
    assert [path for path, _ in data.index.left_out] == bad
    assert all("cannot be read" in reason for _, reason in data.index.left_out)
    assert sum(int(line.split()[0]) for line in told if "left out: cannot be read" in line) == 2
    assert len(epoch_of(data.train_dataloader(), 0)[1]) == 23


def test_skip_refuses_a_class_without_a_readable_image(damaged):
    for path in (damaged / "validation/cats").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"No image of cats in the validation split of .*damaged can be read"):
        skipping(damaged).setup("fit")


def test_max_images_keeps_so_many_of_each_split_the_classes_in_turn(image_folder):
    data = make(image_folder, max_images=7)
    for split in data.splits:
        assert data.index.splits[split].labels == (0, 0, 0, 0, 1, 1, 1)
        assert len(data.dataset(split)) == 7
    assert len(make(image_folder, max_images=1000).dataset("train")) == 24


def test_max_images_counts_readable_images_alone(damaged):
    data = skipping(damaged, max_images=12)
    assert data.index.splits["test"].labels == (0,) * 5 + (1,) * 6
    assert len(data.dataset("train")) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "stretch"}, "resize='stretch': wanted one of squash, crop"),
        ({"on_bad_image": "ignore"}, "on_bad_image='ignore': wanted one of error, skip"),
        ({"image_size": 0}, "image_size=0: wanted a whole number, 1 or more"),
        ({"batch_size": -1}, "batch_size=-1: wanted"),
        ({"max_images": 0}, "max_images=0: wanted"),
    ],
)
def test_wrong_arguments_are_named_before_the_folder_is_looked_at(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path / "absent", **arguments)


def test_an_unknown_split_is_named_with_those_there_are(image_folder):
    with pytest.raises(DataError, match="has no split 'nope'; it has train, validation, test"):
        make(image_folder).dataset("nope")


def test_setup_tells_what_is_wrong_with_the_folder(tmp_path):
    with pytest.raises(DataError, match="absent does not exist"):
        make(tmp_path / "absent").setup("fit")


def test_nothing_is_read_before_setup(tmp_path):
    absent = str(tmp_path / "absent")
    modules = [
        ImageFolderDataModule(absent),
        ImageTableDataModule(absent),
        CatsAndDogsDataModule(absent),
        SketchPetsDataModule(absent),
    ]
    for data in modules:
        for read in ("class_names", "num_classes", "splits", "multi_label", "index"):
            with pytest.raises(DataError, match=f"{type(data).__name__} has not read its images yet: .*setup"):
                getattr(data, read)
        with pytest.raises(DataError, match="has not read its images yet"):
            data.dataset("train")
    with pytest.raises(DataError, match="ImageDataModule has no images: pass an index, or override load_index"):
        ImageDataModule().setup()


def custom_index(root):
    """Labels by the parity of the number in the file's name."""
    splits = {
        split: Samples(tuple(f"{split}/cats/cats.{i}.jpg" for i in range(6)), (0, 1) * 3)
        for split in ("train", "validation")
    }
    return ImageIndex(root, ("even", "odd"), splits)


def test_a_custom_index_is_served_checked_and_cut_like_any_other(image_folder, tmp_path):
    index = custom_index(image_folder)
    data = ImageDataModule(index=index, image_size=64, max_images=3, batch_size=3, num_workers=0)
    data.setup()
    assert (data.class_names, data.class_counts("train")) == (("even", "odd"), (2, 1))
    images, labels = next(iter(data.val_dataloader()))
    assert (images.shape, sorted(labels.tolist())) == ((3, 3, 64, 64), [0, 0, 1])

    root = shutil.copytree(image_folder, tmp_path / "images")
    shutil.copyfile(root / "train/cats/cats.0.jpg", root / "train/cats/cats.1.jpg")
    with pytest.raises(DataError, match=r"train/cats/cats\.0\.jpg = train/cats/cats\.1\.jpg"):
        ImageDataModule(index=custom_index(root), duplicates="error").setup()
    (root / "train/cats/cats.1.jpg").write_bytes(b"no image")
    report = str(tmp_path / "bad.csv")
    data = ImageDataModule(index=custom_index(root), on_bad_image="skip", left_out_report=report, image_size=8)
    data.setup()
    assert [path for path, _ in data.index.left_out] == ["train/cats/cats.1.jpg"]
    assert data.class_counts("train") == (3, 2)


def test_a_subclass_may_load_its_own_index_once(image_folder):
    loaded = []

    class Parity(ImageDataModule):
        def load_index(self):
            loaded.append(self)
            return custom_index(image_folder)

    data = Parity(num_workers=0)
    assert loaded == []
    data.setup("fit")
    data.setup("test")
    assert (loaded, data.num_classes) == ([data], 2)


@pytest.mark.parametrize("is_split", [True, False])
def test_equal_files_in_several_class_folders_are_one_image_with_several_labels(tmp_path, is_split):
    # White is in all three folders, gray in two; each of the others in one.
    folders = {"a": range(8), "b": [*range(8, 12), 0, 1], "c": [*range(12, 16), 0]}
    for split in ("train", "validation", "test") if is_split else ("",):
        for name, shades in folders.items():
            (tmp_path / split / name).mkdir(parents=True)
            for shade in shades:
                # Each split has its own shades, or they would be duplicates.
                colour = (shade * 15, 0, 80 * ("train", "validation", "test", "").index(split))
                Image.new("RGB", (9, 9), colour).save(tmp_path / split / name / f"{shade}{name}.png")
    with pytest.raises(DataError, match="Files of equal content lie in two splits or two classes"):
        make(tmp_path, duplicates="error")
    data = make(tmp_path, multi_label=True, batch_size=16, augmentation=None)
    expected = {"0a": (0, 1, 2), "1a": (0, 1)} | {
        f"{shade}{name}": (label,)
        for label, name in enumerate("abc")
        for shade in folders[name]
        if shade not in (0, 1)
    }
    found = [
        (PurePosixPath(path).stem, labels)
        for samples in data.index.splits.values()
        for path, labels in zip(samples.paths, samples.labels, strict=True)
    ]
    assert len(found) == (3 * 16 if is_split else 16)
    assert dict(found) == expected
    assert data.multi_label
    images, labels = next(iter(data.train_dataloader()))
    assert (labels.dtype, labels.shape) == (torch.float32, (len(images), 3))
    shades = (images[:, 0, 0, 0] / 15).round().int().tolist()
    by_shade = {int("".join(filter(str.isdigit, name))): labels for name, labels in expected.items()}
    for shade, row in zip(shades, labels.tolist(), strict=True):
        assert row == [float(label in by_shade[shade]) for label in range(3)]


def test_images_of_twelve_bits_are_not_nearly_black(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(8):
            values = generator.integers(0, 4081, (8, 8)).astype(np.uint16)
            values[0, 0] = 4080
            Image.fromarray(values).save(tmp_path / name / f"{number}.png")
    data = make(tmp_path, image_size=8, augmentation=None)
    assert data.bit_depth == 12
    assert any("16-bit images use 12 bits" in note for note in data.index.notes)
    path = data.index.splits["train"].paths[0]
    expected = np.asarray(Image.open(tmp_path / path)).astype(float) * 255 / 4095
    found = data.dataset("train")[0][0]
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1)
    assert make(tmp_path, image_size=8, bit_depth=16).dataset("train")[0][0].max() < 17


def test_files_of_several_frames_are_told(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(8):
            first, second = (Image.new("RGB", (8, 8), (number * 30, shade, 0)) for shade in (0, 255))
            first.save(tmp_path / name / f"{number}{name}.gif", save_all=True, append_images=[second])
    data = make(tmp_path, image_size=8, duplicates="keep")
    assert any(
        "Of 16 files with several frames or pages (a/0a.gif, …) the first" in note for note in data.index.notes
    )


def test_a_copy_has_a_test_split_where_there_is_none(image_folder, tmp_path):
    whole = make(image_folder)
    assert whole.with_test_split() is whole
    shutil.copytree(image_folder, tmp_path / "images", ignore=shutil.ignore_patterns("test"))
    images = make(tmp_path / "images", split=(0.5, 0.25, 0.25), split_seed=1)
    before = images.index
    other = images.with_test_split()
    assert (images.index, images.splits) == (before, ("train", "validation"))
    assert other.splits == ("train", "validation", "test")
    assert other.index == with_test(before, (0.5, 0.25, 0.25), 1)
    assert other.index.splits["test"] == before.splits["validation"]
    assert other.index.notes[-1].startswith("There are no test images")
    assert other.with_test_split() is other
