"""What every run of the command line has, unless it says otherwise."""

import json
from pathlib import Path

import pytest
import yaml

from lightning_transfer.monitoring.plots import PLOTS

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def resolved(command, capsys):
    """What `--print_config` prints, which is what a run would use."""

    def of(*arguments):
        assert command("fit", *arguments, "--print_config") == 0
        return yaml.safe_load(capsys.readouterr().out)

    return of


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_has_logger_checkpoints_and_plots_by_default(config, resolved):
    config = resolved(f"--config={config}")
    logger, best, last = config["trainer"]["logger"], config["best_checkpoint"], config["last_checkpoint"]
    assert logger["class_path"].endswith("TensorBoardLogger")
    assert (best["filename"], best["monitor"], best["mode"]) == ("best", "validation/accuracy", "max")
    # With a monitor, Lightning's `save_last` keeps the best one under that name.
    assert (last["filename"], last["monitor"], last["every_n_epochs"]) == ("last", None, None)
    assert set(config["plots"].values()) == {True}


def test_last_is_the_newest_epoch_in_every_config():
    """No config changes the defaults, which `test_every_config_has_…` reads."""
    for config in CONFIGS:
        written = yaml.safe_load(config.read_text())
        assert not written.keys() & {"best_checkpoint", "last_checkpoint", "plots"}
        assert "ModelCheckpoint" not in config.read_text()


@pytest.fixture
def fit(command, image_folder, weights_file):
    """Trains one short epoch on small images, and gives the files it left under logs/ and checkpoints/."""

    def run(*arguments):
        data = ["--data=ImageFolderDataModule", f"--data.root={image_folder}", "--data.image_size=64"]
        model = ["--model=FeatureClassifier", "--model.backbone=squeezenet1_1", f"--model.weights={weights_file}"]
        short = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.num_workers=0"]
        off = [f"--plots.{name}=false" for name in PLOTS]
        quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        assert command("fit", *data, *model, *short, *off, *quiet, *arguments) == 0
        return {
            path.parent.as_posix() for path in Path().rglob("*") if path.suffix == ".ckpt" or "events" in path.name
        }

    return run


def test_without_a_config_a_run_is_named_for_its_module(fit):
    assert fit() == {"logs/feature_classifier/version_0", "checkpoints/feature_classifier"}


def test_each_default_is_changed_by_its_flag(fit):
    flags = ["--run_name=mine", "--last_checkpoint.dirpath=elsewhere", "--best_checkpoint.filename=top"]
    assert fit(*flags, "--trainer.logger=false") == {"checkpoints/mine", "elsewhere"}
    assert {path.name for path in Path().rglob("*.ckpt")} == {"top.ckpt", "last.ckpt"}


def test_without_checkpoints_none_is_written(fit):
    assert fit("--trainer.enable_checkpointing=false", "--run_name=bare") == {"logs/bare/version_0"}


def test_a_checkpoint_of_ones_own_by_the_same_measure_takes_the_place_of_the_default(fit):
    own = {
        "class_path": "ModelCheckpoint",
        "init_args": {"dirpath": "own", "monitor": "validation/accuracy", "mode": "max"},
    }
    assert fit(f"--trainer.callbacks={json.dumps([own])}", "--trainer.logger=false", "--run_name=mine") == {
        "own",
        "checkpoints/mine",
    }
    assert [path.name for path in Path("checkpoints/mine").glob("*.ckpt")] == ["last.ckpt"]
