"""Runs that are stopped from outside go on exactly; those that come to nothing are stopped from inside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_transfer import FeatureClassifier, FrozenBackboneClassifier
from lightning_transfer.cli import main as cli
from lightning_transfer.cli import signals
from lightning_transfer.errors import TrainingError
from lightning_transfer.features.extractor import FeatureExtractor
from lightning_transfer.training.checkpoint_io import read_checkpoint
from runs import differing, saved

CONFIG = Path(__file__).parents[2] / "configs" / "frozen_backbone.yaml"
EXITS = {signal.SIGTERM: 143, signal.SIGINT: 130}
LAST = Path("checkpoints/frozen_backbone/last.ckpt")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


MODEL = ("--model.backbone=squeezenet1_1", "--model.weights=null")
QUIET = tuple(f"--trainer.{name}=false" for name in ("logger", "enable_progress_bar", "enable_model_summary"))


def data_flags(root):
    return ["--data=ImageFolderDataModule", f"--data.root={root}", "--data.image_size=32", "--data.num_workers=0"]


@pytest.fixture
def fit(image_folder):
    """The command line of a small run that shuffles, augments and drops out, of two epochs with five steps."""
    words = ["fit", f"--config={CONFIG}", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", *QUIET]
    words += [*MODEL, "--model.pool=avg", "--model.hidden=8", *data_flags(image_folder), "--data.batch_size=5"]
    return words


def stopped(number, owner, name, call, words):
    """Runs the command line in a process of its own that gets a signal at a function's call.

    Returns:
        Its exit code, and what it said.
    """
    said = Path("said.txt")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process would wait for ever for the others
    process = os.fork()
    if process == 0:
        code = 99
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have none
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = (os.fdopen(place, "w", buffering=1) for place in (1, 2))
            real, calls = getattr(owner, name), []

            def signalled(*arguments, **options):
                calls.append(name)
                if len(calls) == call:
                    os.kill(os.getpid(), number)
                return real(*arguments, **options)

            setattr(owner, name, signalled)
            sys.argv = ["lightning-transfer", *map(str, words)]
            cli.main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 98
        finally:
            os._exit(code)
    torch.set_num_threads(threads)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), said.read_text()


STEP = (FrozenBackboneClassifier, "training_step")
PLACES = {
    "in the second epoch": (signal.SIGINT, *STEP, 8),
    # The digest of the last file is gone then, and the new file beside it.
    "before its file is renamed": (signal.SIGTERM, os, "fsync", 14),
}


def test_what_a_signal_stops_goes_on_to_the_same_weights(command, fit):
    assert command(*fit) == 0
    whole = saved(LAST)
    for place, (number, owner, name, call) in PLACES.items():
        for file in LAST.parent.iterdir():
            file.unlink()
        code, said = stopped(number, owner, name, call, fit)
        assert code == EXITS[number], (place, said)
        assert read_checkpoint(str(LAST))["epoch"] == 0, place
        assert f"pass --ckpt_path {LAST}" in said, (place, said)
        assert "Traceback" not in said
        assert command(*fit, f"--ckpt_path={LAST}") == 0
        assert differing(whole, saved(LAST)) == [], place


def test_before_the_first_epoch_is_over_there_is_nothing_to_go_on_from(command, fit):
    code, said = stopped(signal.SIGINT, *STEP, 3, fit)
    assert code == 130
    assert "nothing is saved that a run could go on from" in said
    assert not LAST.exists()


def test_a_resumed_run_goes_on_from_where_it_began(command, fit):
    assert command(*fit, "--trainer.max_epochs=1") == 0
    code, said = stopped(signal.SIGTERM, *STEP, 3, [*fit, "--ckpt_path=last"])
    assert code == 143
    assert "pass --ckpt_path last" in said
    assert command(*fit, "--ckpt_path=last") == 0
    assert read_checkpoint(str(LAST))["epoch"] == 1


def test_the_program_itself_and_a_signal_from_outside(tmp_path, fit, image_folder):
    """At whatever moment after the first epoch, in a process that was not forked from this one."""
    words = [*fit, "--trainer.max_epochs=100000"]
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "lightning_transfer", *words], cwd=tmp_path, stdout=said, stderr=said
        )
        last_stage = time.monotonic() + 120
        while not (tmp_path / LAST).exists() and time.monotonic() < last_stage and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert f"pass --ckpt_path {LAST}" in (tmp_path / "said.txt").read_text()
    read_checkpoint(str(tmp_path / LAST))


def test_the_other_commands_stop_too(command, image_folder):
    weights = ["--weights=none", "--backbone=squeezenet1_1", "--epochs=2"]
    code, said = stopped(
        signal.SIGTERM, FeatureClassifier, "training_step", 1, ["compare", f"--data={image_folder}", *weights]
    )
    assert code == 143
    assert "The same command continues" in said
    words = ["extract", "--model=FeatureClassifier", *MODEL, *data_flags(image_folder), *QUIET]
    code, _ = stopped(signal.SIGINT, FeatureExtractor, "predict_step", 1, words)
    assert code == 130
    assert not list(Path("features").glob("*/manifest.json"))


def test_under_slurm_sigterm_is_left_to_lightning(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with signals.ends_by_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with signals.ends_by_signals():
        assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is before


def loader(samples=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(samples, 3, 32, 32, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(samples) % 2), 4)


def model_of(kind=FrozenBackboneClassifier, **arguments):
    torch.manual_seed(0)
    return kind("squeezenet1_1", weights=None, num_classes=2, image_size=32, pool="avg", hidden=4, **arguments)


def trainer_of(*callbacks, **arguments):
    defaults = {"max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_model_summary": False}
    return Trainer(**(defaults | {"enable_progress_bar": False} | arguments), callbacks=list(callbacks))


class Diverging(FrozenBackboneClassifier):
    """Its loss is no number from a step on."""

    first = 3

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * (float("nan") if self.global_step >= self.first else 1)


def savers(folder):
    best = ModelCheckpoint(folder, "best", monitor="validation/loss", enable_version_counter=False)
    last = ModelCheckpoint(folder, "last", enable_version_counter=False)
    return best, last, ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)


def test_a_loss_that_is_no_number_stops_the_run_and_is_never_the_best(tmp_path):
    """Two steps an epoch; the fourth step makes NaN of the weights, in the second epoch."""
    best, *others = savers(tmp_path)
    with pytest.raises(TrainingError, match=r"not finite any more, in epoch 1, step 4: .*lower lr"):
        trainer_of(best, *others).fit(model_of(Diverging), loader(), loader())
    assert torch.isfinite(best.best_model_score)
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert [path.name for path in paths] == ["best.ckpt", "last.ckpt", "step=1.ckpt", "step=2.ckpt", "step=3.ckpt"]
    for path in paths:
        checkpoint = read_checkpoint(str(path))
        assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())
        assert checkpoint["epoch"] <= 1


class Blown(Callback):
    """Makes NaN of a weight after the last step of the first epoch, whose losses are all finite."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.is_last_batch:
            torch.nn.init.constant_(pl_module.head.logits.weight, float("nan"))


@pytest.mark.parametrize("validation", [True, False])
def test_weights_that_are_no_numbers_are_neither_judged_nor_saved(tmp_path, validation):
    saving = ModelCheckpoint(tmp_path, "last")
    named = "validation loss" if validation else "network.head.logits.weight"
    with pytest.raises(TrainingError, match=f"The {named} is not finite any more, in epoch 0, step 2"):
        trainer_of(Blown(), saving, num_sanity_val_steps=0).fit(
            model_of(), loader(), loader() if validation else None
        )
    assert not list(tmp_path.glob("*ckpt*"))


def test_within_a_long_epoch_it_does_not_take_until_its_end(tmp_path):
    model = model_of(Diverging)
    with pytest.raises(TrainingError, match="The training loss is not finite any more, in epoch 0, step 51"):
        trainer_of(enable_checkpointing=False).fit(model, loader(4 * 200))


def test_an_epoch_that_ends_so_is_an_error_where_nothing_is_validated_or_saved():
    class Late(Diverging):
        first = 1

    with pytest.raises(TrainingError, match="The training loss is not finite any more, in epoch 0, step 2"):
        trainer_of(enable_checkpointing=False, max_epochs=1).fit(model_of(Late), loader())


def test_a_rate_that_is_far_too_high_is_one_paragraph(command, fit, capsys):
    assert command(*fit, "--model.lr=1e38") == 1
    said = capsys.readouterr().err
    assert "error: The" in said
    assert "is not finite any more, in epoch 0" in said.replace("\n", " ")
    assert "Traceback" not in said
    assert not LAST.parent.exists()


class Nothing(IterableDataset):
    """Yields nothing, and has no length by which that could be foreseen."""

    def __iter__(self):
        return iter(())


RUNS = {
    "train": lambda trainer, empty: trainer.fit(model_of(), empty),
    "validation": lambda trainer, empty: trainer.fit(model_of(), loader(), empty),
    "validation ": lambda trainer, empty: trainer.validate(model_of(), empty, verbose=False),
    "test": lambda trainer, empty: trainer.test(model_of(), empty, verbose=False),
    "predict": lambda trainer, empty: trainer.predict(model_of(), empty),
}


@pytest.mark.filterwarnings("ignore:Total length of .* across ranks is zero")
@pytest.mark.parametrize("split", RUNS)
@pytest.mark.parametrize("empty", [loader(0), DataLoader(Nothing())], ids=["of length 0", "of no length"])
def test_loaders_of_nothing_are_errors(split, empty):
    trainer = trainer_of(enable_checkpointing=False, num_sanity_val_steps=0)
    with pytest.raises(TrainingError, match=f"Not one batch of {split}"):
        RUNS[split](trainer, empty)


def test_limits_of_nothing_are_somebodys_wish():
    trainer_of(enable_checkpointing=False, limit_train_batches=0).fit(model_of(), loader())
    trainer_of(enable_checkpointing=False, limit_val_batches=0).fit(model_of(), loader(), loader())


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_last_without_one_is_an_error(command, fit, capsys, verb):
    assert command(verb, *fit[1:], "--ckpt_path=last") == 1
    said = capsys.readouterr().err.replace("\n", " ")
    assert "--ckpt_path last: there is no last*.ckpt in" in said
    assert "Traceback" not in said
