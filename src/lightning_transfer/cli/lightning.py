"""Lightning's own commands and `extract`: LightningCLI that extracts features, if it must, before it trains."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

import lightning_transfer
from lightning_transfer.cli.arg_parsing import CommandParser, configs_first
from lightning_transfer.cli.callback_flags import find_owners
from lightning_transfer.cli.config_limits import refuse_functions
from lightning_transfer.cli.run_defaults import CHECKPOINTS, LOGGER, add_run_defaults, name_run
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.errors import ModuleError
from lightning_transfer.features.datamodule import FeatureDataModule
from lightning_transfer.features.extract import FeatureDtype, extract_features
from lightning_transfer.features.store import FeatureStore
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.monitoring.plots import Plots
from lightning_transfer.training.checkpoint_io import (
    AtomicCheckpointIO,
    read_checkpoint,
    save_atomically,
)
from lightning_transfer.training.checkpoints import (
    ORIGINS,
    check_resumable,
    check_same_network,
    load_part,
    recorded_arguments,
    upgrade,
    warn_of_other_class,
)
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.utils.lightning import callbacks_of, find_callbacks
from lightning_transfer.utils.machine import default_precision


@dataclass
class FeatureOptions:
    """How a backbone's outputs are stored.

    Args:
        root: The folder of feature stores; null for none: every image then goes through the backbone each time.
        dtype: What to keep features as.
        views: How often each training image is taken, augmented but for the first time; epoch e trains on view e
            modulo that number.
        cache_prefix: In fine-tuning, keep the outputs of the stages that never unfreeze, and train on those.
        in_memory: Read the features once, and keep them in memory.
    """

    root: str | None = "features"
    dtype: FeatureDtype = "float16"
    views: int = 1
    cache_prefix: bool = False
    in_memory: bool = False


class TransferTrainer(Trainer):
    """Lightning's Trainer with `extract`."""

    def extract(
        self, backbone: Backbone, datamodule: ImageDataModule, root: str, options: FeatureOptions
    ) -> FeatureStore:
        """Run the backbone once over every image, and keep its outputs on disk."""
        return extract_features(self, backbone, datamodule, root=root, dtype=options.dtype, views=options.views)


class TransferParser(CommandParser, LightningArgumentParser):
    """Lightning's parser, which names the nearest right key where one is wrong."""


class TransferCLI(LightningCLI):
    """LightningCLI that extracts features, if it must, before it trains or tests on them.

    The number of classes and the images' size are the data's, or the backbone's where they have image_size null;
    `--ckpt_path` brings backbone and head along, so that no weights file is looked for.
    """

    model: LightningModule
    datamodule: LightningDataModule
    trainer: TransferTrainer

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands but `predict`, for which a checkpoint and a folder are enough; and `extract`.

        None takes `weights_only`, with which a config could have a checkpoint's pickled objects loaded.
        """
        commands = {**LightningCLI.subcommands(), "extract": {"backbone", "datamodule", "root", "options"}}
        del commands["predict"]
        return {name: {*skipped, "weights_only"} for name, skipped in commands.items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments that `run` was given; refuse functions in them."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)
        refuse_functions(self.config)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--features.*`, `--plots.*`, and what every run has."""
        find_owners(parser)
        add_run_defaults(parser)
        parser.add_class_arguments(FeatureOptions, "features")
        parser.add_class_arguments(Plots, "plots")

    def _parse_ckpt_path(self) -> None:
        """Take the model's arguments from the checkpoint, if it is of a module of this library.

        Lightning's own way overrides what was typed, for fit too
        (https://github.com/Lightning-AI/pytorch-lightning/issues/21455), and imports and calls what a file names.
        """
        self.checkpoint: dict[str, Any] | None = None
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if path is None or path in ("best", "last", "hpc"):
            return
        self.checkpoint = read_checkpoint(path)
        if "class_names" not in self.checkpoint:
            return  # somebody else's module, whose arguments are those that were typed
        if self.config.subcommand == "fit":
            check_resumable(self.checkpoint, path)
        upgrade(self.checkpoint, path)
        arguments = config.model.init_args
        fitting = self.config.subcommand == "fit"
        recorded = dict.fromkeys(ORIGINS) if fitting else recorded_arguments(self.checkpoint)
        for name in recorded.keys() & arguments.keys():
            arguments[name] = recorded[name]

    def before_instantiate_classes(self) -> None:
        """Name the run, and say which precision was chosen for the machine."""
        name_run(self.config[self.config.subcommand])
        precision = self._get(self.config, "trainer").precision
        if precision == default_precision() == "bf16-mixed":
            rank_zero_info(
                "Precision bf16-mixed: this machine has units for it. Else pass --trainer.precision 32-true."
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a Trainer that saves checkpoints atomically, for any module.

        The best and the last checkpoint are for modules of this library: others need not log an accuracy.
        """
        trainer_arguments = self._get(self.config_init, "trainer")
        if isinstance(self.model, Classifier) and trainer_arguments.enable_checkpointing is not False:
            callbacks = list(trainer_arguments.callbacks or ())
            kwargs["callbacks"] = [*callbacks, *self._default_checkpoints({each.state_key for each in callbacks})]
        trainer = super().instantiate_trainer(**kwargs)
        save_atomically(trainer)
        return trainer

    def _default_checkpoints(self, state_keys: Set[str]) -> list[ModelCheckpoint]:
        """Return the best and the last checkpoint, unless `trainer.callbacks` saves by the same measure."""
        default = {name: self._get(self.config_init, name) for name in CHECKPOINTS}
        for name in [name for name, each in default.items() if each.state_key in state_keys]:
            rank_zero_info(f"{name} is left out: a ModelCheckpoint in trainer.callbacks has its measure.")
            del default[name]
        return list(default.values())

    def after_instantiate_classes(self) -> None:
        """Load the backbone from the checkpoint now, since features may have to be extracted with it.

        Images without a size of their own have the module's, if it has one.
        """
        if not isinstance(self.model, Classifier):
            return
        if isinstance(self.datamodule, ImageDataModule) and self.datamodule.image_size is None:
            self.datamodule.image_size = self.model.hparams["image_size"]
        if self.checkpoint is None:
            return
        self.model.on_load_checkpoint(self.checkpoint)
        path = self._get(self.config, "ckpt_path")
        warn_of_other_class(self.checkpoint, type(self.model), path)
        check_same_network(self.checkpoint, self.model.hparams, path)
        load_part(self.model.backbone, self.checkpoint, "network.backbone", path)

    def extract(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Extract the features, and print where they are."""
        options = self._feature_options()
        if options.root is None:
            raise ModuleError("features.root is null: extract needs a folder to put the store in.")
        if not isinstance(model, Classifier) or not isinstance(datamodule, ImageDataModule):
            raise ModuleError(
                f"extract needs a model of lightning_transfer and images in folders; got {type(model).__name__} "
                f"and {type(datamodule).__name__}."
            )
        backbone = model.cached_backbone(self.trainer, options.cache_prefix) or model.backbone
        print(self.trainer.extract(backbone, datamodule, options.root, options))  # noqa: T201

    def before_fit(self) -> None:
        """Extract the features, if the model trains on them, and add the plots."""
        self._check_last()
        self._serve_features(fitting=True)
        if not isinstance(self.model, Classifier):
            rank_zero_info(
                f"{type(self.model).__name__} is no module of lightning_transfer: best_checkpoint, "
                "last_checkpoint and plots are left out. Name what you want under trainer.callbacks."
            )
            return
        plots: Plots = self._get(self.config_init, "plots")
        # Before those that save, which Lightning keeps at the end.
        callbacks_of(self.trainer)[:0] = plots.callbacks()

    def before_validate(self) -> None:
        """Extract the features, if the model takes them."""
        self._check_last()
        self._serve_features()

    before_test = before_validate

    def _run_subcommand(self, subcommand: str) -> None:
        """Say how to resume, when a fit is stopped from outside."""
        try:
            super()._run_subcommand(subcommand)
        except (KeyboardInterrupt, SystemExit):
            if subcommand == "fit" and self.trainer.is_global_zero:
                print(f"\n{self._way_on()}", file=sys.stderr)  # noqa: T201
            raise

    def _way_on(self) -> str:
        saving = self.trainer.strategy.checkpoint_io
        saved = saving.resumable if isinstance(saving, AtomicCheckpointIO) else None
        path = self._get(self.config, "ckpt_path") if saved is None else os.path.relpath(saved)
        if path is None:
            return "Stopped before the first epoch was over: nothing is saved that a run could go on from."
        return f"Stopped. To go on after the last epoch that was saved, pass --ckpt_path {path}"

    def _check_last(self) -> None:
        """Refuse `last` where there is none; Lightning only warns, and starts from scratch."""
        if self._get(self.config, "ckpt_path") != "last":
            return
        saving = find_callbacks(self.trainer, ModelCheckpoint)
        if not any(callback._find_last_checkpoints(self.trainer) for callback in saving):
            folders = ", ".join(str(callback.dirpath) for callback in saving if callback.dirpath)
            raise ModuleError(
                f"--ckpt_path last: there is no last*.ckpt in {folders or 'a folder of a new run'}. Pass the file "
                "to go on from, or leave the flag out to start from scratch."
            )

    def _feature_options(self) -> FeatureOptions:
        options: FeatureOptions = self._get(self.config_init, "features")
        return options

    def _serve_features(self, fitting: bool = False) -> None:
        options, model = self._feature_options(), self.model
        if options.root is None or not isinstance(model, Classifier):
            return
        backbone = model.cached_backbone(self.trainer, options.cache_prefix and fitting)
        if backbone is None:
            return
        if not isinstance(self.datamodule, ImageDataModule):
            name = type(self.datamodule).__name__
            rank_zero_info(
                f"{name} names no image files, so no features are stored: its batches are used as they are."
            )
            return
        images = self.datamodule
        store = self.trainer.extract(backbone, images, options.root, options)
        self.datamodule = FeatureDataModule(
            store, batch_size=images.batch_size, seed=images.seed, images=images, in_memory=options.in_memory
        )


def run(program: str, description: str, arguments: Sequence[str]) -> None:
    """Run one of Lightning's commands."""
    # The parser finds classes by their short names among those that are imported.
    for name in lightning_transfer.__all__:
        getattr(lightning_transfer, name)
    TransferCLI(
        args=configs_first(arguments),
        parser_class=TransferParser,
        trainer_class=TransferTrainer,
        trainer_defaults={"precision": default_precision(), "logger": LOGGER},
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        parser_kwargs={
            "prog": program,
            "description": description,
            "exit_on_error": False,
            "allow_abbrev": False,
        },
    )
