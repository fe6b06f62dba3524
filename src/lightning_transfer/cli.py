"""`lightning-transfer`: Lightning's own commands, `extract`, and the commands that need no Trainer."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jsonargparse import auto_cli
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.text import Text

from lightning_transfer.commands.compare import compare
from lightning_transfer.commands.summary import summary
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.errors import ModuleError, TransferError
from lightning_transfer.features.datamodule import FeatureDataModule
from lightning_transfer.features.extract import FeatureDtype, extract_features
from lightning_transfer.features.store import FeatureStore
from lightning_transfer.modules.checkpoint import ORIGINS, read_checkpoint
from lightning_transfer.modules.classifier import Classifier
from lightning_transfer.modules.feature_classifier import FeatureClassifier
from lightning_transfer.precision import default_precision

PROGRAM = "lightning-transfer"
COMMANDS: dict[str, Callable[..., Any]] = {"compare": compare, "summary": summary}


@dataclass
class FeatureOptions:
    """Where and how a base's outputs are kept.

    Args:
        root: The folder of feature stores; null for none: every picture then goes through the base each time.
        dtype: What to keep features as.
    """

    root: str | None = "features"
    dtype: FeatureDtype = "float16"


class TransferTrainer(Trainer):
    """Lightning's Trainer, which can also extract."""

    def extract(
        self, model: Classifier, datamodule: ImageFolderDataModule, root: str, dtype: FeatureDtype
    ) -> FeatureStore:
        """Run the base once over every picture, and keep its outputs on disk."""
        return extract_features(self, model.base, datamodule, root, dtype)


class TransferCLI(LightningCLI):
    """LightningCLI that extracts features, if it must, before it trains or tests on them.

    The number of classes and the pictures' size are the data's; `--ckpt_path` brings base and head along, so
    that no weights file is looked for.
    """

    model: LightningModule
    datamodule: LightningDataModule
    trainer: TransferTrainer

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands and `extract`."""
        extract = {"model", "datamodule", "root", "dtype"}
        return {**LightningCLI.subcommands(), "extract": extract}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `--features.*`, and lets the model learn from the data what it must know of them."""
        parser.add_class_arguments(FeatureOptions, "features")
        parser.link_arguments("data.init_args.image_size", "model.init_args.image_size")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Takes the model's arguments from the checkpoint, where there is one.

        Lightning's own way overrides what was typed, for fit too, and wants the classes importable
        (https://github.com/Lightning-AI/pytorch-lightning/issues/21455).
        """
        self.checkpoint: dict[str, Any] | None = None
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if path is None or path in ("best", "last", "hpc"):
            return
        self.checkpoint = read_checkpoint(path)
        if "class_names" not in self.checkpoint:
            super()._parse_ckpt_path()  # of a module of somebody else's
            return
        arguments = config.model.init_args
        origins = dict.fromkeys(ORIGINS)
        recorded = origins if self.config.subcommand == "fit" else self.checkpoint["hyper_parameters"]
        for name in recorded.keys() & arguments.keys():
            arguments[name] = recorded[name]

    def before_instantiate_classes(self) -> None:
        """Says which precision was chosen for the machine."""
        precision = self._get(self.config, "trainer").precision
        if precision == default_precision() == "bf16-mixed":
            rank_zero_info(
                "Precision bf16-mixed: this machine has units for it. Else pass --trainer.precision 32-true."
            )

    def after_instantiate_classes(self) -> None:
        """Fills the model from the checkpoint now, since features may have to be extracted with its base."""
        if self.checkpoint is None or not isinstance(self.model, Classifier):
            return
        try:
            self.model.on_load_checkpoint(self.checkpoint)
            self.model.load_state_dict(self.checkpoint["state_dict"])
        except RuntimeError as error:
            raise ModuleError(
                f"The checkpoint does not fit {type(self.model).__name__} as it is configured: {error} "
                "Pass the arguments it was trained with."
            ) from error

    def extract(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Extracts, and says where to."""
        root, dtype = self._feature_options()
        if root is None:
            raise ModuleError("features.root is null: extract needs a folder to put the store in.")
        if not isinstance(model, Classifier) or not isinstance(datamodule, ImageFolderDataModule):
            raise ModuleError(
                f"extract needs a model of lightning_transfer and pictures in folders; got {type(model).__name__} "
                f"and {type(datamodule).__name__}."
            )
        print(self.trainer.extract(model, datamodule, root, dtype))  # noqa: T201

    def predict(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Predicts the test pictures, and prints a line for each: file, class, probability.

        Args:
            model: What predicts.
            datamodule: The pictures.
            options: `Trainer.predict`'s own.
        """
        if self.trainer.world_size > 1:
            raise ModuleError("predict prints for one process only: pass --trainer.devices 1.")
        batches = cast(list[torch.Tensor] | None, self.trainer.predict(model, datamodule=datamodule, **options))
        if not isinstance(model, Classifier) or not isinstance(datamodule, ImageFolderDataModule) or not batches:
            return
        names = model.class_names or datamodule.class_names
        for path, row in zip(datamodule.dataset("test").samples.paths, torch.cat(batches), strict=False):
            print(f"{path}  {names[int(row.argmax())]}  {row.max():.1%}")  # noqa: T201

    def before_fit(self) -> None:
        """Extracts the features, if the model trains on them."""
        self._serve_features()

    before_validate = before_test = before_fit

    def _feature_options(self) -> tuple[str | None, FeatureDtype]:
        options = self._get(self.config_init, "features")
        return options.root, options.dtype

    def _serve_features(self) -> None:
        root, dtype = self._feature_options()
        if root is None or not isinstance(self.model, FeatureClassifier):
            return
        if not isinstance(self.datamodule, ImageFolderDataModule):
            name = type(self.datamodule).__name__
            rank_zero_info(
                f"{name} names no picture files, so nothing is kept: its batches are used as they come."
            )
            return
        images = self.datamodule
        store = extract_features(self.trainer, self.model.base, images, root, dtype)
        self.datamodule = FeatureDataModule(store, images.batch_size, images.seed)


def main() -> None:
    """Entry point; errors that a person can mend are one paragraph on stderr, and exit with 1."""
    # Stored features are read faster without workers, and one decodes as fast as a base on a CPU computes.
    warnings.filterwarnings("ignore", ".*does not have many workers")
    warnings.filterwarnings("ignore", ".*is not supported by the model summary")
    # Scores are logged once an epoch, whatever the interval.
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval")
    # Lightning 2.6 with torch from 2.13 on.
    warnings.filterwarnings("ignore", ".*LeafSpec")
    try:
        command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
        if command is not None:
            auto_cli(command, args=sys.argv[2:], prog=f"{PROGRAM} {sys.argv[1]}")
        else:
            _lightning_cli()
    except Exception as error:
        mendable = _mendable(error)
        if mendable is None:
            raise
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), _plain(mendable)), soft_wrap=True)
        sys.exit(1)


def _lightning_cli() -> None:
    others = [f"{name} ({(command.__doc__ or '').splitlines()[0]})" for name, command in COMMANDS.items()]
    TransferCLI(
        trainer_class=TransferTrainer,
        trainer_defaults={"precision": default_precision()},
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        parser_kwargs={
            "prog": PROGRAM,
            "description": "Transfer learning with a pretrained convolutional network.",
            "epilog": f"Other commands: {', '.join(others)}",
        },
    )


def _mendable(error: BaseException | None) -> TransferError | None:
    """The person's own error, also where jsonargparse, that tries a class for several types, wraps it."""
    while error is not None and not isinstance(error, TransferError):
        error = error.__cause__ or error.__context__
    return error


def _plain(error: TransferError) -> str:
    """The message itself, also where a DataLoader has put a worker's traceback around it."""
    return str(error).rpartition(f"{type(error).__qualname__}: ")[2].strip()
