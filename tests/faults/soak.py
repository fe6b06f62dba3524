"""Kills extraction and training again and again, each time at a random moment, and lets them go on.

    CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 python tests/faults/soak.py --kills 200 --seed 0

Each run must end with the weights of the one that nobody disturbed, to the last bit; and after each kill what lies
on the disk must be whole: the feature store complete or absent, the last checkpoint readable and no older than
before.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from killing import ended, start
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from lightning_transfer import (
    FeatureClassifier,
    FeatureDataModule,
    FeatureStore,
    FineTuningClassifier,
    History,
    ImageFolderDataModule,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.training.classifier import Classifier

EPOCHS = 5
LAST = Path("checkpoints") / "last.ckpt"
NETWORK: dict[str, Any] = {
    "backbone": "mobilenet_v3_small",
    "weights": None,
    "last_stage": "block3",
    "image_size": 32,
    "pool": "avg",
    "hidden": 8,
}


def draw_images(root: Path, number: int = 8) -> Path:
    """So many noisy images of each class to train on, half as many to validate on."""
    generator = np.random.default_rng(0)
    for split, count in (("train", number), ("validation", number // 2)):
        for name in ("cats", "dogs"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{name}.{index}.png")
    return root


def feature_extraction(image_folder: Path, folder: Path, epochs: int = EPOCHS, *watching: Callback) -> Trainer:
    """Extracts two views of each image, where that is not done, and trains the head on them."""
    seed_everything(0, verbose=False)
    model, trainer = FeatureClassifier(**NETWORK), _trainer(folder, epochs, *watching)
    images = ImageFolderDataModule(str(image_folder), image_size=32, batch_size=8, num_workers=0)
    store = extract_features(trainer, model.backbone, images, root=folder / "features", views=2)
    return _fit(trainer, model, FeatureDataModule(store, batch_size=8), folder)


def fine_tuning(image_folder: Path, folder: Path, epochs: int = EPOCHS, *watching: Callback) -> Trainer:
    """Trains on augmented images, with two unfreezes on the way."""
    seed_everything(0, verbose=False)
    unfreezes = StagedUnfreeze({0: ["head"], 1: ["block3"], 3: ["block2"]})
    model, trainer = FineTuningClassifier(**NETWORK), _trainer(folder, epochs, unfreezes, *watching)
    images = ImageFolderDataModule(str(image_folder), image_size=32, batch_size=8, num_workers=0)
    return _fit(trainer, model, images, folder)


SCENARIOS = {"feature extraction": feature_extraction, "fine-tuning": fine_tuning}


def _trainer(folder: Path, epochs: int, *callbacks: Callback) -> Trainer:
    saving = ModelCheckpoint(folder / LAST.parent, LAST.stem, enable_version_counter=False)
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[History(), *callbacks, saving],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _fit(trainer: Trainer, model: Classifier, data: LightningDataModule, folder: Path) -> Trainer:
    last = folder / LAST
    trainer.fit(model, data, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer


@dataclass
class Soak:
    """One scenario, killed again and again.

    Attributes:
        scenario: Its name.
        folder: Where everything happens.
        seed: Of the moments.
        kills: So many processes were killed.
        runs: So many runs came to their end, right.
        stores: After so many kills there was a feature store, complete.
        checkpoints: After so many kills there was a checkpoint, no older than before.
    """

    scenario: str
    folder: Path
    seed: int
    kills: int = 0
    runs: int = 0
    stores: int = 0
    checkpoints: int = 0

    def __post_init__(self) -> None:
        self._generator = np.random.default_rng(self.seed)
        self._images = draw_images(self.folder / "images")
        # In this process, so that those forked from it need import nothing.
        SCENARIOS[self.scenario](self._images, self.folder / "warm", 1)
        self._right = self.folder / "undisturbed"
        begin = time.perf_counter()
        assert ended(self._begin(self._right)) == 0
        self.seconds = time.perf_counter() - begin

    def kill(self, kills: int) -> Soak:
        """Lets runs begin, be killed and go on, until so many have been killed and the last one has ended."""
        while self.kills < kills:
            folder, left = self.folder / f"run_{self.runs}", (0, -1)
            while not self._is_done(folder):
                before, left = left, self._what_is_left(folder)
                assert left[0] >= before[0], "a store is lost"
                assert left[1] >= before[1], "a checkpoint is lost"
                self.stores += left[0]
                self.checkpoints += left[1] >= 0
            self._check_end(folder)
            shutil.rmtree(folder)
            self.runs += 1
        return self

    def _is_done(self, folder: Path) -> bool:
        """Begins a run or goes on with it, and kills it at some moment of the time that a whole one takes."""
        process = self._begin(folder)
        time.sleep(self._generator.uniform(0, self.seconds))
        os.kill(process, signal.SIGKILL)  # which does nothing to a process that has ended
        code = ended(process)
        assert code in (0, -signal.SIGKILL), "a run failed by itself"
        self.kills += code != 0
        return code == 0

    def _begin(self, folder: Path) -> int:
        def work() -> None:
            folder.mkdir(exist_ok=True)
            tempfile.tempdir = str(folder)  # so that what a kill leaves there goes with the rest
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            SCENARIOS[self.scenario](self._images, folder)

        return start(work)

    def _what_is_left(self, folder: Path) -> tuple[int, int]:
        """How many stores a killed run has left, all right ones, and the epoch of its checkpoint, a whole one."""
        stores = list((folder / "features").glob("[!.]*"))
        for path in stores:
            _check_same_store(path, self._right / "features" / path.name)
        last = folder / LAST
        return len(stores), _checkpoint(last)["epoch"] if last.exists() else -1

    def _check_end(self, folder: Path) -> None:
        """A run that came to its end has the right weights, and has left nothing behind."""
        ours, right = (_checkpoint(path / LAST) for path in (folder, self._right))
        assert ours["epoch"] == right["epoch"] == EPOCHS - 1
        weights = right["state_dict"]
        assert ours["state_dict"].keys() == weights.keys()
        different = [name for name, value in ours["state_dict"].items() if not torch.equal(value, weights[name])]
        assert not different, f"other weights than those of the undisturbed run: {different}"
        for path in (folder / "features").glob("[!.]*"):
            _check_same_store(path, self._right / "features" / path.name)
        assert not list(folder.rglob("*staging*")), "a staging folder is left"


def _checkpoint(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def _check_same_store(one: Path, other: Path) -> None:
    """Compare manifests and arrays."""
    ours, right = FeatureStore(one), FeatureStore(other)
    assert ours.manifest == right.manifest
    for split in right.splits:
        assert (one / f"{split}.npy").read_bytes() == (other / f"{split}.npy").read_bytes(), split


def main() -> None:
    """Soaks each scenario by turns, and says how often it was killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    begin, kills = time.perf_counter(), 0
    for number, scenario in enumerate(SCENARIOS):
        with tempfile.TemporaryDirectory() as folder:
            wanted = (arguments.kills - kills) // (len(SCENARIOS) - number)
            soak = Soak(scenario, Path(folder), arguments.seed + number).kill(wanted)
        kills += soak.kills
        print(
            f"{scenario}: {soak.kills} kills within {soak.seconds:.2f} s, after which {soak.stores} times "
            f"a store was there and {soak.checkpoints} times a checkpoint, whole; {soak.runs} runs ended right"
        )
    print(f"{kills} kills survived, in {time.perf_counter() - begin:.0f} s (seed {arguments.seed})")


if __name__ == "__main__":
    main()
