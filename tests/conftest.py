"""Images, weights and command lines that several tests share; everything is made here, nothing is fetched."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torchvision import models

from lightning_transfer import (
    Backbone,
    FeatureClassifier,
    FeatureDataModule,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.cli import main as cli

# Lightning 2.6 calls jsonargparse by names that its newer versions deprecate.
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"

COLOURS = {"cats": (200, 90, 60), "dogs": (60, 120, 200), "horses": (90, 200, 90)}


def draw_image(path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> None:
    """A noisy image of one colour, as JPEG or what the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 40, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def draw_folder(
    root: Path, classes: tuple[str, ...] = ("cats", "dogs"), counts: tuple[int, ...] = (12, 6, 6)
) -> Path:
    """`root/{train,validation,test}/<class>/`, with so many images a class."""
    seed = 0
    for split, count in zip(("train", "validation", "test"), counts, strict=False):
        for name in classes:
            for number in range(count):
                seed += 1
                draw_image(root / split / name / f"{name}.{number}.jpg", COLOURS[name], seed)
    return root


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests and their processes keep lies in a folder of their own, and never in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with modules that have slow tests, so that no process is left with one in the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split folder of two classes: 24, 12 and 12 images. Not to be changed."""
    return draw_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SqueezeNet 1.1's features with random weights, in torchvision's keys, without the classifier."""
    torch.manual_seed(0)
    state = models.squeezenet1_1(weights=None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save({key: value for key, value in state.items() if not key.startswith("classifier")}, path)
    return path


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder with real photographs and weights."""
    folder = os.environ.get("LIGHTNING_TRANSFER_REAL")
    if not folder:
        pytest.skip("LIGHTNING_TRANSFER_REAL names no folder with real photographs and weights")
    return Path(folder)


@pytest.fixture(scope="session")
def checkpoints(
    image_folder: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A checkpoint of each regime, after an epoch on `images`; images of 64 × 64, cut from the middle."""
    folder = tmp_path_factory.mktemp("checkpoints")
    images = ImageFolderDataModule(str(image_folder), image_size=64, resize="crop", num_workers=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    paths = {}
    for regime in (FeatureClassifier, FrozenBackboneClassifier, FineTuningClassifier):
        torch.manual_seed(0)
        model = regime("squeezenet1_1", weights=str(weights_file), image_size=64, pool="avg", hidden=16, lr=1e-2)
        callbacks = [StagedUnfreeze({0: ["head", "fire9"]})] if regime is FineTuningClassifier else []
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, enable_checkpointing=False, callbacks=callbacks, **quiet
        )
        data = images
        if regime is FeatureClassifier:
            data = FeatureDataModule(extract_features(trainer, model.backbone, images, root=folder))
        trainer.fit(model, data)
        paths[regime.__name__] = folder / f"{regime.__name__}.ckpt"
        trainer.save_checkpoint(paths[regime.__name__], weights_only=False)
    return paths


@pytest.fixture
def quiet_trainer() -> Callable[..., Trainer]:
    """Makes a Trainer on the CPU that neither logs, saves nor draws."""

    def make(**arguments: object) -> Trainer:
        defaults = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        return Trainer(**(defaults | arguments))  # type: ignore[arg-type]

    return make


def command_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the real command line in this process, in a folder, and gives the exit code."""
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["lightning-transfer", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
        return 0

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command line in an empty folder."""
    return command_in(tmp_path, monkeypatch)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The images that went through any backbone, shape computations apart."""
    counted: list[torch.Tensor] = []
    forward = Backbone.forward

    def counting(self: Backbone, images: torch.Tensor) -> torch.Tensor:
        counted.extend([] if images.is_meta else images)
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", counting)
    return counted
