"""A flag of a callback reaches the callback that has it, wherever it stands on the command line."""

from itertools import permutations
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "configs"
FINDER = f"--config={CONFIGS / 'trainer' / 'lr_finder.yaml'}"
SCHEDULE = "--trainer.callbacks.schedule={0: [head], 3: [fire9]}"
STOPPING = "--trainer.callbacks+=EarlyStopping"
MONITOR = "--trainer.callbacks.monitor=validation/loss"
WANTED = {
    "StagedUnfreeze": {"0": ["head"], "3": ["fire9"]},
    "LearningRateFinder": 100,
    "EarlyStopping": "validation/loss",
}


@pytest.fixture
def ours(tmp_path, image_folder):
    """A config with a schedule of its own, as README's flags are added to one."""
    path = tmp_path / "ours.yaml"
    model = {"backbone": "squeezenet1_1", "weights": None, "pool": "avg", "hidden": 8}
    data = {"root": str(image_folder), "image_size": 32, "num_workers": 0}
    schedule = {"class_path": "lightning_transfer.StagedUnfreeze", "init_args": {"schedule": {0: ["head"]}}}
    config = {
        "model": {"class_path": "lightning_transfer.FineTuningClassifier", "init_args": model},
        "data": {"class_path": "lightning_transfer.ImageFolderDataModule", "init_args": data},
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "callbacks": [schedule], "enable_progress_bar": False},
    }
    path.write_text(yaml.safe_dump(config))
    return f"--config={path}"


def callbacks(command, capsys, *arguments):
    """What `--print_config` says of the callbacks, by class: what the flags above set."""
    assert command("fit", *arguments, "--print_config") == 0, capsys.readouterr().err
    found = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    telling = ("schedule", "num_training_steps", "monitor")
    return {
        each["class_path"].rpartition(".")[2]: next(
            each["init_args"][n] for n in telling if n in each["init_args"]
        )
        for each in found
    }


def test_every_order_is_the_same_run(command, capsys, ours):
    groups = [[ours], [FINDER], [SCHEDULE], [STOPPING, MONITOR]]
    # One config goes before the other, since an overlay adds to what it is laid over.
    orders = [order for order in permutations(groups) if order.index([ours]) < order.index([FINDER])]
    for order in orders:
        assert callbacks(command, capsys, *(flag for group in order for flag in group)) == WANTED, order


@pytest.mark.parametrize("how", ["+=StagedUnfreeze", "=StagedUnfreeze"])
def test_without_a_config_too(command, capsys, image_folder, how):
    data = ["--model=FineTuningClassifier", "--data=ImageFolderDataModule", f"--data.root={image_folder}"]
    flags = [f"--trainer.callbacks{how}", SCHEDULE, STOPPING, MONITOR]
    assert callbacks(command, capsys, *data, *flags).items() < WANTED.items()


def test_of_two_of_a_kind_the_last_is_meant(command, capsys, ours):
    other = "--trainer.callbacks.init_args.monitor=validation/accuracy"
    assert callbacks(command, capsys, ours, STOPPING, MONITOR, STOPPING, other, SCHEDULE)["EarlyStopping"] == (
        "validation/accuracy"
    )


def test_typed_flags_go_before_configs(command, capsys, ours):
    assert command("fit", "--trainer.max_epochs", "7", ours, "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] == 7


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_such_a_run_trains(command, ours):
    assert command("fit", ours, STOPPING, MONITOR, SCHEDULE, "--trainer.max_epochs=4", "--plots.graph=false") == 0
    rows = Path("checkpoints/fine_tuning_classifier/metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("stages/trained")
    assert [float(row.split(",")[column]) for row in rows[1:]] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([STOPPING, "--trainer.callbacks.schedul={}"], ["schedul", "did you mean schedule?"]),
        ([STOPPING, "--trainer.callbacks.stages=1"], ["stages", "StagedUnfreeze, EarlyStopping", "monitor"]),
        (["--trainer.callbacks=null", SCHEDULE], ["there is no callback yet", "--trainer.callbacks+=CLASS"]),
    ],
)
def test_an_argument_that_no_callback_has_is_named(command, capsys, ours, flags, words):
    assert command("fit", ours, *flags) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: ")
    assert all(word in said for word in words), said
