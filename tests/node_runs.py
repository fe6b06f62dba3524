"""One process of a job on several nodes; `test_nodes.py` starts it and checks what each process leaves.

    torchrun … node_runs.py WHAT IMAGES WEIGHTS NODES DEVICES

WHAT is "regimes" or "commands". It works in the current folder, which the nodes share.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_transfer import (
    Backbone,
    FeatureClassifier,
    FeatureDataModule,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
    SketchPetsDataModule,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.cli import main as cli
from lightning_transfer.cli.commands.predict import predict
from lightning_transfer.errors import TransferError
from lightning_transfer.features import builder

SIZE = 64
SAMPLES = {"train": 3, "validation": 1, "test": 1}
CONFIGS = Path(__file__).parent.parent / "configs"


class Job:
    """What the processes of a job have in common.

    Args:
        image_folder: The images.
        weights: A file of SqueezeNet's weights.
        nodes: How many nodes.
        devices: Processes per node.
    """

    def __init__(self, image_folder: Path, weights: Path, nodes: int, devices: int) -> None:
        self.image_folder = image_folder
        self.weights = weights
        self.nodes = nodes
        self.devices = devices
        self.written: set[str] = set()
        self.rank = 0
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record which files below the current folder this process opens for writing."""
        if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            path = Path(os.path.abspath(arguments[0]))  # noqa: PTH100  # links are not followed
            if path.is_relative_to(Path.cwd()):
                self.written.add(path.relative_to(Path.cwd()).as_posix())

    def trainer(self, name: str, **arguments: Any) -> Trainer:
        """Make a Trainer that saves and logs two epochs."""
        callbacks = [*arguments.pop("callbacks", []), ModelCheckpoint(f"checkpoints/{name}", "last")]
        trainer = Trainer(
            accelerator="cpu",
            strategy="ddp",
            num_nodes=self.nodes,
            devices=self.devices,
            logger=CSVLogger("logs", name, version=""),
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            **({"max_epochs": 2} | arguments),
        )
        self.rank = trainer.global_rank
        return trainer

    def model(self, regime: type[Any]) -> Any:
        """Make a module, the same in each process."""
        seed_everything(0, verbose=False)
        return regime("squeezenet1_1", weights=str(self.weights), image_size=SIZE, pool="avg", hidden=8, lr=1e-3)

    def images(self, root: Path | None = None) -> ImageFolderDataModule:
        """Make a data module with batches of three per process."""
        return ImageFolderDataModule(str(root or self.image_folder), image_size=SIZE, batch_size=3, num_workers=0)

    def leave(self, name: str, **seen: Any) -> None:
        """Save what this process has seen."""
        torch.save(seen, f"{name}.{self.rank}.pt")

    def fitted(self, name: str, trainer: Trainer, model: LightningModule, data: Any) -> None:
        """Fit, and leave weights and scores."""
        trainer.fit(model, data)
        scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.leave(name, weights=model.state_dict(), scores=scores)


def regimes(job: Job) -> None:
    """Make a store, run each regime, and run once on images that must be drawn first."""
    model = job.model(FeatureClassifier)
    trainer = job.trainer("features")
    store = extract_features(trainer, model.backbone, job.images(), root="features", dtype="float32")
    job.fitted("features", trainer, model, FeatureDataModule(store, batch_size=3))
    job.fitted("frozen", job.trainer("frozen"), job.model(FrozenBackboneClassifier), job.images())
    unfreeze = StagedUnfreeze({0: ["head"], 1: ["fire9"]})
    tuning = job.trainer("tuned", callbacks=[unfreeze])
    job.fitted("tuned", tuning, job.model(FineTuningClassifier), job.images())
    sketches = SketchPetsDataModule("data/sketches", SAMPLES, image_size=SIZE, batch_size=1, num_workers=0)
    short = job.trainer("sketches", max_epochs=1, limit_train_batches=1)
    short.fit(job.model(FrozenBackboneClassifier), sketches)
    job.leave("files", written=job.written)


def commands(job: Job) -> None:
    """Use the command line: extract features, train a head on them, and predict."""
    run = ["fit", f"--config={CONFIGS / 'feature_extraction.yaml'}", f"--config={CONFIGS / 'trainer/nodes.yaml'}"]
    run += ["--data=ImageFolderDataModule", f"--data.root={job.image_folder}", f"--data.image_size={SIZE}"]
    run += ["--data.num_workers=0", "--model.backbone=squeezenet1_1", f"--model.weights={job.weights}"]
    run += ["--model.hidden=8", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    processes = ["accelerator=cpu", f"devices={job.devices}", "precision=32-true"]
    sys.argv = ["lightning-transfer", *run, *(f"--trainer.{words}" for words in processes)]
    cli.main()
    checkpoint = "checkpoints/feature_extraction/last.ckpt"
    sys.argv = ["lightning-transfer", "predict", f"--ckpt_path={checkpoint}", f"--data={job.image_folder}"]
    sys.argv += ["--num_workers=0", "--strategy=ddp", f"--num_nodes={job.nodes}"]
    sys.argv += [f"--{words}" for words in processes]
    cli.main()
    job.rank = torch.distributed.get_rank()
    job.leave("files", written=job.written)
    job.leave("apart", complaints=apart(job, Path(checkpoint).absolute()))


def apart(job: Job, checkpoint: Path) -> list[str]:
    """Return the errors if each node has its own folder, with different images in it."""
    builder.PATIENCE = 1
    shared, own = Path.cwd(), Path.cwd() / f"node{job.rank}"
    shutil.copytree(job.image_folder, own / "images")
    os.chdir(own)
    image = Path("images/train/cats/cats.3.jpg")
    if job.rank == 1:
        shutil.copy(image.with_name("cats.4.jpg"), image)
    trainer, backbone = job.trainer("apart"), Backbone("squeezenet1_1", str(job.weights))
    options = {"accelerator": "cpu", "devices": job.devices, "strategy": "ddp", "num_nodes": job.nodes}
    images = job.images(Path("images"))

    def one_less() -> None:
        if job.rank == 1:
            image.unlink()
        trainer.fit(job.model(FrozenBackboneClassifier), job.images(Path("images")))

    attempts: list[Callable[[], Any]] = [
        lambda: extract_features(trainer, backbone, job.images(), root="features"),
        lambda: extract_features(trainer, backbone, images, root=shared / "features"),
        one_less,
        lambda: predict(str(checkpoint), "images", **options),
    ]
    complaints = []
    for attempt in attempts:
        try:
            attempt()
            complaints.append("")
        except TransferError as error:
            complaints.append(f"{type(error).__name__}: {error}")
    os.chdir(shared)
    return complaints


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    what, image_folder, weights, nodes, devices = sys.argv[1:]
    job = Job(Path(image_folder), Path(weights), int(nodes), int(devices))
    {"regimes": regimes, "commands": commands}[what](job)
