"""The regimes' accuracy on real photographs with real weights, from the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_transfer import Backbone, FeatureClassifier, ImageFolderDataModule
from lightning_transfer.data.decoding import load_image

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "feature_extraction.yaml"

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    # Lightning's own table of parameters, which knows no bf16.
    pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary"),
]


def flags(real, config=CONFIG, samples=None):
    return [
        f"--config={config}",
        f"--data.root={real / 'data' / 'cats_and_dogs_small'}",
        "--model.backbone=squeezenet1_1",
        f"--model.weights={real / 'weights' / 'squeezenet1_1-imagenet-features.pth'}",
        "--model.pool=avg",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        *([] if samples is None else [f"--data.max_images={samples}"]),
    ]


@pytest.fixture
def accuracy_of(command, capsys):
    """Runs `test`, and reads the accuracy from the printed table."""

    def run(*arguments):
        capsys.readouterr()
        assert command("test", *arguments) == 0
        (accuracy,) = re.findall(r"test/accuracy\s*│\s*([0-9.]+)", capsys.readouterr().out)
        return float(accuracy)

    return run


@pytest.mark.parametrize(
    ("samples", "least"), [(200, 0.86), pytest.param(None, 0.93, marks=pytest.mark.nightly)], ids=["some", "all"]
)
def test_accuracy_from_images_and_from_the_store(real, command, accuracy_of, monkeypatch, samples, least):
    same = flags(real, samples=samples)

    def tested(*more):
        return accuracy_of(*same, "--ckpt_path=checkpoints/feature_extraction/best.ckpt", *more)

    assert command("fit", *same) == 0
    from_store = tested()
    assert from_store >= least
    assert tested("--features.root=null") == pytest.approx(from_store, abs=0.002)

    forward = Backbone.forward

    def refuse(self, images):
        assert images.is_meta, "the backbone ran again"
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", refuse)
    # The graph takes a pass of its own.
    assert command("fit", *same, "--trainer.max_epochs=1", "--plots.graph=false") == 0


@pytest.mark.nightly
def test_accuracy_of_the_frozen_backbone_and_of_fine_tuning_that_starts_there(real, command, accuracy_of):
    """Shorter than the README's runs, with lower bounds."""
    frozen = [*flags(real, ROOT / "configs" / "frozen_backbone.yaml"), "--model.lr=1e-3", "--data.batch_size=32"]
    milder = ["--data.augmentation.rotation=20", "--data.augmentation.shift=0.1", "--data.augmentation.shear=0"]
    assert command("fit", *frozen, *milder, "--trainer.max_epochs=5") == 0
    best = "checkpoints/frozen_backbone/best.ckpt"
    from_frozen_backbone = accuracy_of(*frozen, f"--ckpt_path={best}")
    assert from_frozen_backbone >= 0.93
    tuned = [*flags(real, ROOT / "configs" / "fine_tuning_squeezenet.yaml"), "--trainer.max_epochs=5"]
    schedule = "--trainer.callbacks.schedule={0: [head, fire9, fire8, fire7, fire6]}"
    assert command("fit", *tuned, schedule, f"--model.init_from={best}") == 0
    assert accuracy_of(*tuned, "--ckpt_path=checkpoints/fine_tuning_squeezenet/best.ckpt") >= 0.94


def test_logits_from_images_are_those_from_the_store(real, command):
    assert command("fit", *flags(real), "--data.max_images=200", "--trainer.max_epochs=2") == 0
    (folder,) = Path("features").glob("[!.]*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["splits"]["test"]["paths"]) == 200
    model = FeatureClassifier.load_from_checkpoint("checkpoints/feature_extraction/best.ckpt", weights_only=True)
    root = real / "data" / "cats_and_dogs_small"
    images = ImageFolderDataModule(str(root), max_images=200, batch_size=100, num_workers=0)
    images.setup()
    stored = torch.tensor(np.load(folder / "test.npy"))[:100]
    bf16 = manifest["recipe"]["precision"] == "bf16-mixed"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        from_images = model.network.eval()(next(iter(images.test_dataloader()))[0]).float()
        from_store = model.network.forward_from("head", stored).float()
    assert manifest["splits"]["test"]["paths"][0] == "test/cats/cat.1500.jpg"
    torch.testing.assert_close(from_store, from_images, rtol=2e-2, atol=2e-2)
    assert (from_store.argmax(dim=1) == from_images.argmax(dim=1)).float().mean() >= 0.99


def test_every_original_decodes_as_pillow_decodes_it(real):
    paths = sorted((real / "data" / "originals").rglob("*.jpg"))[::10]
    assert len(paths) == 100
    for path in paths:
        with Image.open(path) as expected:
            assert expected.getexif().get(0x0112, 1) == 1, "an orientation: compare with the turned image"
            np.testing.assert_array_equal(np.asarray(load_image(path)), np.asarray(expected.convert("RGB")))


def test_an_unsplit_folder_of_originals_is_split_by_class(real):
    data = ImageFolderDataModule(str(real / "data" / "originals"), resize="crop")
    data.setup()
    assert {split: len(data.dataset(split)) for split in data.splits} == {
        "train": 700,
        "validation": 150,
        "test": 150,
    }
    assert data.class_names == ("cats", "dogs")
