"""What a run of the command line has unless it says otherwise: TensorBoard, the best and the last checkpoint.

A config need not repeat them; `--print_config` shows them, and each is changed by its flag.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser

LOGGER: dict[str, Any] = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": "logs", "name": None, "default_hp_metric": False},
}
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "best_checkpoint": {"filename": "best", "monitor": "validation/accuracy", "mode": "max"},
    "last_checkpoint": {"filename": "last"},
}


def add_run_defaults(parser: LightningArgumentParser) -> None:
    """Add `--run_name`, `--best_checkpoint.*` and `--last_checkpoint.*`."""
    parser.add_argument(
        "--run_name",
        type=str | None,
        default=None,
        help="The run's folder in logs/ and in checkpoints/; null: the model's class in snake case.",
    )
    for key, values in CHECKPOINTS.items():
        parser.add_class_arguments(ModelCheckpoint, key)
        defaults = {"enable_version_counter": False, **values}
        parser.set_defaults({f"{key}.{name}": value for name, value in defaults.items()})


def name_run(config: Namespace) -> None:
    """Put the run's name where logger and checkpoints are null."""
    if config.run_name is None:
        config.run_name = snake_case(config.model.class_path.rpartition(".")[2])
    for key in CHECKPOINTS:
        if config[key].dirpath is None:
            config[key].dirpath = str(Path("checkpoints", config.run_name))
    logger = config.trainer.logger
    is_default = isinstance(logger, Namespace) and logger.class_path == LOGGER["class_path"]
    if is_default and logger.init_args.name is None:
        logger.init_args.name = config.run_name


def snake_case(name: str) -> str:
    """Write a class's name as a folder's.

    >>> snake_case("FineTuningClassifier")
    'fine_tuning_classifier'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
