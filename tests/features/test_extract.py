"""extract_features against a hand-written loop over torchvision's own network."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image
from torchvision import models

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer import Backbone, FeatureStore, ImageFolderDataModule, extract_features
from lightning_transfer.errors import DataError, StoreError

SIZE = 64


@pytest.fixture
def backbone(weights_file):
    return Backbone("squeezenet1_1", str(weights_file))


def images_of(root, **arguments):
    images = ImageFolderDataModule(
        str(root), **({"image_size": SIZE, "batch_size": 5, "num_workers": 0} | arguments)
    )
    images.setup()
    return images


@pytest.fixture
def images(image_folder):
    return images_of(image_folder)


def by_hand(weights_file, root, split):
    """Features and labels of one split: torchvision's network, Pillow and a loop."""
    network = models.squeezenet1_1(weights=None).features
    state = torch.load(weights_file, weights_only=True)
    network.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    features, labels = [], []
    for label, name in enumerate(sorted(os.listdir(root / split))):
        for file in sorted(os.listdir(root / split / name)):
            image = Image.open(root / split / name / file).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            scaled = (np.asarray(image) / 255 - mean) / std
            with torch.no_grad():
                features.append(network.eval()(torch.tensor(scaled.transpose(2, 0, 1)[None]).float())[0].numpy())
            labels.append(label)
    return np.stack(features), labels


def test_it_is_what_a_hand_written_loop_gives(
    backbone, images, image_folder, weights_file, tmp_path, quiet_trainer
):
    store = extract_features(quiet_trainer(), backbone, images, root=tmp_path)
    assert store.splits == ("train", "validation", "test")
    for split in store.splits:
        features, labels = by_hand(weights_file, image_folder, split)
        assert store.features(split).dtype == np.float16
        np.testing.assert_allclose(store.features(split), features, rtol=2e-3, atol=2e-3)
        assert store.labels(split).tolist() == labels
        assert all((image_folder / path).is_file() for path in store.paths(split))


def test_a_second_time_the_backbone_does_not_run(backbone, images, image_folder, tmp_path, quiet_trainer, passes):
    first = extract_features(quiet_trainer(), backbone, images, root=tmp_path)
    assert len(passes) == 24 + 12 + 12
    for path in image_folder.rglob("*.jpg"):
        os.utime(path)  # a date alone changes nothing
    second = extract_features(
        quiet_trainer(), backbone, images_of(image_folder, batch_size=7, seed=3), root=tmp_path
    )
    assert len(passes) == 48
    assert first.path == second.path


def test_other_inputs_make_another_store(backbone, tmp_path, weights_file, quiet_trainer):
    root = draw_folder(tmp_path / "images", counts=(3, 2, 2))

    def store(trainer=None, backbone=backbone, dtype="float16", **arguments):
        trainer = trainer or quiet_trainer()
        return extract_features(
            trainer, backbone, images_of(root, **arguments), root=tmp_path / "f", dtype=dtype
        ).path

    torch.manual_seed(5)
    paths = [
        store(),
        store(trainer=quiet_trainer(precision="bf16-mixed")),
        store(backbone=Backbone("squeezenet1_1", weights=None)),
        store(backbone=backbone.split("fire9")[0]),
        store(dtype="float32"),
        store(image_size=72),
        store(resize="crop"),
        store(max_images=4),
    ]
    draw_image(root / "test" / "cats" / "cats.0.jpg", COLOURS["cats"], seed=999)
    paths.append(store())
    (root / "test" / "cats" / "cats.1.jpg").rename(root / "test" / "cats" / "renamed.jpg")
    paths.append(store())
    assert len(set(paths)) == len(paths) == len(list((tmp_path / "f").glob("[!.]*")))


def test_the_prefix_of_a_cut_is_a_backbone_too(backbone, images, tmp_path, quiet_trainer):
    prefix, suffix = backbone.split("fire6")
    features = extract_features(quiet_trainer(), prefix, images, root=tmp_path, dtype="float32").features("test")
    whole = extract_features(quiet_trainer(), backbone, images, root=tmp_path, dtype="float32").features("test")
    with torch.no_grad():
        np.testing.assert_allclose(suffix.eval()(torch.tensor(features)), whole, rtol=1e-3, atol=1e-4)


def test_a_backbone_without_stages_is_refused(backbone, images, tmp_path, quiet_trainer):
    with pytest.raises(StoreError, match="no stage left"):
        extract_features(quiet_trainer(), backbone.split("stem")[0], images, root=tmp_path)


def test_the_trainer_keeps_its_callbacks_loggers_and_limits(backbone, images, tmp_path, quiet_trainer):
    class Refuses(Callback):
        def setup(self, trainer, pl_module, stage):
            raise AssertionError(stage)

    own = [Refuses(), ModelCheckpoint(tmp_path / "checkpoints")]
    trainer = quiet_trainer(callbacks=own, enable_checkpointing=True, limit_predict_batches=1)
    before = list(trainer.callbacks)
    store = extract_features(trainer, backbone, images, root=tmp_path / "f")
    assert trainer.callbacks == before
    assert trainer.limit_predict_batches == 1
    assert store.features("train").any(axis=(1, 2, 3)).all(), "some images were left out"
    assert backbone.training, "the backbone's mode was not restored"


def test_under_fast_dev_run_the_store_is_complete_all_the_same(backbone, images, tmp_path, quiet_trainer):
    store = extract_features(quiet_trainer(fast_dev_run=True), backbone, images, root=tmp_path)
    assert store.features("test").any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_is_named_and_leaves_nothing(backbone, tmp_path, quiet_trainer, num_workers):
    root = draw_folder(tmp_path / "images")
    (root / "test" / "dogs" / "dogs.3.jpg").write_bytes(b"<html>not an image</html>")
    with pytest.raises(DataError, match=r"dogs\.3\.jpg cannot be read"):
        extract_features(quiet_trainer(), backbone, images_of(root, num_workers=num_workers), root=tmp_path / "f")
    assert [path for path in (tmp_path / "f").iterdir() if path.suffix != ".lock"] == []
    skipping = images_of(root, on_bad_image="skip", left_out_report=str(tmp_path / "bad.csv"))
    store = extract_features(quiet_trainer(), backbone, skipping, root=tmp_path / "f")
    assert len(store.labels("test")) == 11
    assert "test/dogs/dogs.3.jpg" not in store.paths("test")


def test_features_that_are_not_finite_are_not_published(backbone, images, tmp_path, quiet_trainer):
    with torch.no_grad():
        backbone.stages["fire9"].fire.expand1x1.weight.fill_(1e6)
    with pytest.raises(StoreError, match=r"image train/cats/cats\.0\.jpg are not finite in float16"):
        extract_features(quiet_trainer(), backbone, images, root=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


SCRIPT = textwrap.dedent(
    """
    import sys
    from lightning.pytorch import Trainer
    from lightning_transfer import Backbone, ImageFolderDataModule, extract_features

    root, weights, features, devices = sys.argv[1:]
    trainer = Trainer(accelerator="cpu", devices=int(devices), strategy="ddp" if devices != "1" else "auto",
                      logger=False, enable_checkpointing=False, enable_progress_bar=False)
    images = ImageFolderDataModule(root, image_size=64, batch_size=5, num_workers=0)
    backbone = Backbone("squeezenet1_1", weights)
    passes, forward = [], Backbone.forward

    def counting(self, images):
        passes.extend([] if images.is_meta else images)
        return forward(self, images)

    Backbone.forward = counting
    for _ in range(2):
        store = extract_features(trainer, backbone, images, root=features)
        sys.stdout.write(f"rank {trainer.global_rank} passes {len(passes)} {store.path.name}\\n")
        sys.stdout.flush()
    """
)


def launch(tmp_path, *arguments):
    script = tmp_path / "extract_script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def output(process):
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return text


@pytest.mark.slow
def test_two_ranks_share_the_work_and_make_the_same_store(
    backbone, images, image_folder, weights_file, tmp_path, quiet_trainer
):
    text = output(launch(tmp_path, image_folder, weights_file, tmp_path / "two", 2))
    for rank in (0, 1):
        assert text.count(f"rank {rank} passes 24 ") == 2, text
    (path,) = (tmp_path / "two").glob("[!.]*")
    store, single = FeatureStore(path), extract_features(quiet_trainer(), backbone, images, root=tmp_path / "one")
    assert path.name == single.path.name
    for split in single.splits:
        np.testing.assert_allclose(store.features(split), single.features(split), rtol=2e-3, atol=2e-3)
        assert store.labels(split).tolist() == single.labels(split).tolist()


@pytest.mark.nightly
def test_of_several_processes_one_extracts(image_folder, weights_file, tmp_path):
    processes = [launch(tmp_path, image_folder, weights_file, tmp_path / "f", 1) for _ in range(3)]
    texts = [output(process) for process in processes]
    assert sorted(text.count("passes 48") for text in texts) == [0, 0, 2]
    assert sorted(text.count("passes 0") for text in texts) == [0, 2, 2]
    (path,) = (tmp_path / "f").glob("[!.]*")
    assert FeatureStore(path).features("train").any(axis=(1, 2, 3)).all()
