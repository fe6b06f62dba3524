"""Every callback of Lightning does its work or is refused, with each regime, on images and on a store."""

import csv
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, callbacks
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    OnExceptionCheckpoint,
    RichModelSummary,
    RichProgressBar,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger

from flag_runs import BATCH, EACH_CASE, TRAIN, VALIDATION, made_runs
from lightning_transfer import load_classifier
from lightning_transfer.errors import ModuleError, ScheduleError
from runs import copied, differing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.* did not unfreeze"),
    pytest.mark.filterwarnings("ignore:Precision .* is not supported by the model summary"),
]
ABSTRACT = {"BaseFinetuning", "Callback", "Checkpoint", "ProgressBar"}


@pytest.fixture(scope="module")
def runs(image_folder, weights_file, tmp_path_factory):
    return made_runs(image_folder, weights_file, tmp_path_factory.mktemp("features"))


@pytest.fixture(params=EACH_CASE)
def fit(request, runs, tmp_path, monkeypatch):
    """Fits one case in an empty folder. The head is made in `setup`, after the callbacks' own."""
    monkeypatch.chdir(tmp_path)

    def run(*added, **arguments):
        return runs.fit(request.param, callbacks=added, **arguments)

    run.case = request.param
    run.data = lambda: runs.data(request.param)
    return run


class Weights(Callback):
    """Keeps the weights of the head after each optimizer step, and at each epoch's start."""

    def __init__(self):
        self.steps, self.starts = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(copied(pl_module.head.state_dict()))

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts.append(copied(pl_module.head.state_dict()))


def logged(logger):
    """The rows of a CSVLogger's table."""
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_no_callback_is_forgotten():
    here = Path(__file__).read_text().partition("def test_no_callback")[2]
    assert [name for name in set(callbacks.__all__) - ABSTRACT if not re.search(rf"\b{name}\b", here)] == []


@pytest.mark.parametrize("averaging", [EMAWeightAveraging, WeightAveraging])
def test_averaged_weights_are_those_of_a_hand_written_average(fit, averaging):
    """The head is in the average, although it was made after the callback had copied the module."""
    weights = Weights()
    options = {"decay": 0.5} if averaging is EMAWeightAveraging else {}
    ran = fit(weights, averaging(**options))
    wanted, count = dict(weights.steps[0]), 1
    for step in weights.steps[1:]:
        share = 0.5 if options else 1 / (count + 1)
        wanted = {name: value + (step[name] - value) * share for name, value in wanted.items()}
        count += 1
    for name, value in ran.model.head.state_dict().items():
        torch.testing.assert_close(value, wanted[name], msg=name)
        assert not torch.equal(value, weights.steps[-1][name])


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_stochastic_weight_averaging_averages_the_head_or_is_refused(fit):
    weights, averaging = Weights(), StochasticWeightAveraging(1e-2, swa_epoch_start=2)
    if "tuning" in fit.case:
        with pytest.raises(ScheduleError, match=r"StochasticWeightAveraging fails .* use EMAWeightAveraging"):
            fit(weights, averaging, max_epochs=4)
        assert weights.steps == []
        return
    ran = fit(weights, averaging, max_epochs=4)
    averaged = weights.starts[1:]  # Lightning counts from 1, and averages when an epoch begins
    for name, value in ran.model.head.state_dict().items():
        torch.testing.assert_close(value, sum(start[name] for start in averaged) / len(averaged), msg=name)
        assert not torch.equal(value, weights.steps[-1][name])


def test_finetuning_callbacks_of_others_are_refused_before_anything_trains(fit):
    weights = Weights()
    with pytest.raises(ModuleError, match=r"BackboneFinetuning unfreezes .* use FineTuningClassifier with Staged"):
        fit(weights, BackboneFinetuning(1))
    assert weights.starts == []


def test_pruning_is_refused_before_anything_trains(fit):
    weights = Weights()
    with pytest.raises(
        ModuleError, match=r"ModelPruning renames parameters .* with torch\.nn\.utils\.prune, after"
    ):
        fit(weights, ModelPruning("l1_unstructured", amount=0.5))
    assert weights.starts == []


@pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training")  # of its later tries
def test_the_batch_size_that_was_found_trains_as_if_it_had_been_given(fit):
    finder = BatchSizeFinder(init_val=4, max_trials=2, steps_per_trial=1)
    found = fit(finder, enable_checkpointing=True, default_root_dir=".")
    assert finder.optimal_batch_size == found.data.batch_size == 8
    assert found.witness.batches[-1] == 3
    assert differing(found.weights, fit(data={"batch_size": 8}).weights) == []


def test_the_learning_rate_that_was_found_trains_as_if_it_had_been_given(fit):
    short = {"max_epochs": 5, "data": {"batch_size": 4}}  # the finder needs some steps
    found = fit(LearningRateFinder(num_training_steps=25, min_lr=1e-5, max_lr=1e-1), **short)
    assert found.model.lr != 1e-2
    assert found.trainer.optimizers[0].param_groups[-1]["lr"] == found.model.lr
    assert differing(found.weights, fit(model={"lr": found.model.lr}, **short).weights) == []


def test_early_stopping_stops(fit):
    stopping = EarlyStopping("validation/loss", patience=1, min_delta=100)
    ran = fit(stopping, max_epochs=6)
    # It counts again from the unfreezing of fire9, in epoch 1.
    assert ran.trainer.current_epoch in (2, 3)
    assert stopping.stopped_epoch == ran.trainer.current_epoch - 1


def test_accumulation_by_epoch_makes_so_many_steps(fit):
    assert fit(GradientAccumulationScheduler({1: 2})).trainer.global_step == TRAIN + TRAIN // 2


def test_hooks_given_as_functions_are_called(fit):
    seen = []
    fit(LambdaCallback(on_train_epoch_end=lambda trainer, module: seen.append(trainer.current_epoch)))
    assert seen == [0, 1]


def test_the_monitors_log(fit):
    pytest.importorskip("psutil", reason="Lightning's DeviceStatsMonitor needs psutil on a processor")
    logger = CSVLogger("csv")
    fit(
        LearningRateMonitor("epoch"),
        DeviceStatsMonitor(cpu_stats=True),
        logger=logger,
        log_every_n_steps=1,
    )
    rows = logged(logger)
    names = [name for name in rows[0] if name.startswith("lr-") and "/" in name]
    assert names
    assert any(name.startswith("DeviceStatsMonitor.") for name in rows[0])


@pytest.mark.filterwarnings("ignore:When using the `ThroughputMonitor`, you need to define")  # FLOPs need it alone
def test_throughput_is_logged(fit):
    logger = CSVLogger("csv")
    monitor = ThroughputMonitor(lambda batch: len(batch[0]), window_size=2)
    fit(monitor, logger=logger, log_every_n_steps=1)
    samples = [float(row["train/samples"]) for row in logged(logger) if row.get("train/samples")]
    assert samples[-1] == 2 * TRAIN * BATCH


def test_the_best_checkpoints_are_kept_and_load(fit):
    saving = ModelCheckpoint("kept", "{epoch}", monitor="validation/loss", save_top_k=2, mode="min")
    ran = fit(saving, max_epochs=3, enable_checkpointing=True)
    assert len(list(Path("kept").glob("*.ckpt"))) == 2
    best = load_classifier(saving.best_model_path)
    assert best.class_names == ("cats", "dogs")
    [again] = ran.trainer.validate(best.module, fit.data(), verbose=False)
    assert again["validation/loss"] == pytest.approx(float(saving.best_model_score), abs=1e-3)


@pytest.mark.parametrize("kind", [ModelSummary, RichModelSummary])
def test_summaries_list_the_parts(fit, capsys, caplog, kind):
    with caplog.at_level("INFO", "lightning.pytorch"):
        fit(kind(max_depth=2), max_epochs=1, enable_model_summary=True)
    said = capsys.readouterr().out + caplog.text
    assert "network.backbone" in said
    assert "network.head" in said


@pytest.mark.parametrize("kind", [RichProgressBar, TQDMProgressBar])
def test_progress_bars_show_the_scores(fit, capsys, monkeypatch, kind):
    monkeypatch.setenv("COLUMNS", "300")
    fit(kind(), enable_progress_bar=True)
    said = capsys.readouterr()
    assert "validation/accuracy" in (said.out + said.err).replace("\n", "")


# Lightning's words where it looks for a checkpoint of an earlier failure, and where there is none.
@pytest.mark.filterwarnings(r"ignore:`\.fit\(ckpt_path=None\)` was called without a model")
@pytest.mark.filterwarnings(r'ignore:\.fit\(ckpt_path="last"\) is set, but there is no last checkpoint')
def test_a_run_that_fails_is_saved_and_its_error_is_the_one_that_comes(fit, monkeypatch):
    def fail(trainer, pl_module, *_):
        raise RuntimeError("pulled the plug")

    saving = OnExceptionCheckpoint(".", "failed")
    with pytest.raises(RuntimeError, match="pulled the plug"):
        fit(saving, LambdaCallback(on_train_epoch_end=fail), enable_checkpointing=True)
    assert load_classifier("failed.ckpt").class_names == ("cats", "dogs")
    Path("failed.ckpt").unlink()
    # Before set-up there is no head yet.
    monkeypatch.setattr(type(fit.data()), "setup", lambda self, stage: fail(None, None))
    with pytest.raises(RuntimeError, match="pulled the plug"):
        fit(OnExceptionCheckpoint(".", "failed"), enable_checkpointing=True)


def test_spikes_are_looked_for_and_a_plain_run_has_none(fit):
    assert fit(SpikeDetection(warmup=2, mode="min", window=2, rtol=100, atol=100)).trainer.global_step == 2 * TRAIN


def test_the_timer_stops_it(fit):
    timer = Timer({"microseconds": 1}, interval="epoch")
    ran = fit(timer, max_epochs=5)
    assert (ran.witness.batches, ran.witness.validations) == ([TRAIN], [VALIDATION])
    assert timer.time_elapsed("train") > 0


def test_predictions_are_written(fit):
    class Writer(BasePredictionWriter):
        def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
            torch.save(torch.cat(predictions), "predictions.pt")

    ran = fit(Writer("epoch"), max_epochs=1)
    ran.trainer.predict(ran.model, ran.data.test_dataloader())
    rows = torch.load("predictions.pt", weights_only=True)
    assert rows.shape == (12, 2)
    torch.testing.assert_close(rows.sum(1), torch.ones(12))
