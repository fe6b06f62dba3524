"""Every flag of the Trainer that concerns training does as it says, with each regime, on images and on a store."""

import inspect
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from flag_runs import BATCH, CASES, EACH_CASE, TEST, TRAIN, VALIDATION, made_runs
from lightning_transfer.utils.machine import default_precision
from runs import differing

pytestmark = [
    pytest.mark.slow,
    # Runs that are cut short end before the second stage's epoch.
    pytest.mark.filterwarnings("ignore:.* did not unfreeze"),
]
# Those that have no part here, and why.
ELSEWHERE = {
    "accelerator": "tests/training/test_gpu.py: the flags are the same on a GPU",
    "strategy": "tests/training/test_ddp.py and test_spawned.py; others are refused in tests/callbacks",
    "devices": "tests/training/test_ddp.py",
    "num_nodes": "tests/test_nodes.py",
    "sync_batchnorm": "torch's needs GPUs; on one device Lightning leaves it alone, which is tested here",
    "callbacks": "tests/training/test_trainer_callbacks.py",
    "plugins": "AtomicCheckpointIO in tests/faults/test_checkpoints.py; others replace parts of Lightning",
    "model_registry": "names a place at Lightning's own service, for checkpoints",
}


@pytest.fixture(scope="module")
def runs(image_folder, weights_file, tmp_path_factory):
    return made_runs(image_folder, weights_file, tmp_path_factory.mktemp("features"))


@pytest.fixture(params=EACH_CASE)
def fit(request, runs, tmp_path, monkeypatch):
    """Fits one case in an empty folder; what a flag sets for all of torch is put back."""
    monkeypatch.chdir(tmp_path)

    def run(**arguments):
        return runs.fit(request.param, **arguments)

    run.case = request.param
    yield run
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = False


def test_no_parameter_of_the_trainer_is_forgotten():
    here = Path(__file__).read_text()
    parameters = set(inspect.signature(Trainer).parameters)
    assert ELSEWHERE.keys() <= parameters
    assert [name for name in parameters - ELSEWHERE.keys() if not re.search(rf'\b{name}(=|":)', here)] == []


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_as_torch_does(fit, algorithm):
    witness = fit(gradient_clip_val=1e-2, gradient_clip_algorithm=algorithm).witness
    assert len(witness.stepped) == 2 * TRAIN
    changed = 0
    for came, stepped in zip(witness.gradients, witness.stepped, strict=True):
        wanted = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in came]
        for parameter, gradient in zip(wanted, came, strict=True):
            parameter.grad = gradient.clone()
        (clip_grad_norm_ if algorithm == "norm" else clip_grad_value_)(wanted, 1e-2)
        for parameter, gradient in zip(wanted, stepped, strict=True):
            torch.testing.assert_close(gradient, parameter.grad)
        changed += not all(map(torch.equal, came, stepped))
    assert changed >= TRAIN  # it had something to do


def test_a_run_that_diverged_goes_on_with_clipping(fit, tmp_path):
    """As the error about a loss that is not finite recommends: the checkpoint is of a run without clipping."""
    fit(max_epochs=1).trainer.save_checkpoint(tmp_path / "first.ckpt")
    again = fit(gradient_clip_val=1e-2, ckpt_path=tmp_path / "first.ckpt")
    assert len(again.witness.stepped) == TRAIN
    norms = [torch.nn.utils.get_total_norm(step) for step in again.witness.stepped]
    assert max(norms) < 1.001e-2


def test_accumulated_batches_are_one_large_batch(fit):
    exact = {"precision": "64-true", "model": {"optimizer": "SGD", "lr": 0.1}}
    two = fit(accumulate_grad_batches=2, **exact)
    one = fit(data={"batch_size": 2 * BATCH}, **exact)
    assert two.trainer.global_step == one.trainer.global_step == TRAIN
    for name, value in one.weights.items():
        torch.testing.assert_close(two.weights[name], value, rtol=1e-9, atol=1e-9, msg=name)
    # What is left of an epoch is a step of its own.
    assert fit(accumulate_grad_batches=3).trainer.global_step == 2 * 2


@pytest.mark.parametrize("share", [2, 0.5])
def test_overfitting_sees_the_same_batches_in_each_epoch(fit, share):
    witness = fit(overfit_batches=share).witness
    assert witness.batches == [2, 2]
    assert (
        differing([batch.tolist() for batch in witness.labels[0]], [b.tolist() for b in witness.labels[1]]) == []
    )


@pytest.mark.parametrize(
    ("flags", "batches", "validations"),
    [
        ({}, [TRAIN] * 2, [VALIDATION] * 2),
        ({"limit_train_batches": 2}, [2] * 2, [VALIDATION] * 2),
        ({"limit_train_batches": 0.5}, [2] * 2, [VALIDATION] * 2),
        ({"limit_val_batches": 1}, [TRAIN] * 2, [1] * 2),
        ({"limit_val_batches": 0.5}, [TRAIN] * 2, [1] * 2),
        ({"limit_val_batches": 0}, [TRAIN] * 2, []),
        ({"val_check_interval": 2}, [TRAIN] * 2, [VALIDATION] * 4),
        ({"val_check_interval": 0.25}, [TRAIN] * 2, [VALIDATION] * 8),
        ({"val_check_interval": 6, "check_val_every_n_epoch": None}, [TRAIN] * 2, [VALIDATION]),
        ({"check_val_every_n_epoch": 2}, [TRAIN] * 2, [VALIDATION]),
        ({"fast_dev_run": True}, [1], [1]),
        ({"fast_dev_run": 2}, [2], [2]),
        ({"max_epochs": 3}, [TRAIN] * 3, [VALIDATION] * 3),
        ({"max_steps": 3}, [3], []),
        ({"max_steps": 6, "max_epochs": -1}, [TRAIN, 2], [VALIDATION]),
        ({"max_time": timedelta(microseconds=1), "max_epochs": -1}, [1], [VALIDATION]),
        ({"max_time": "00:01:00:00"}, [TRAIN] * 2, [VALIDATION] * 2),
    ],
    ids=str,
)
def test_it_trains_and_validates_so_many_batches(fit, flags, batches, validations):
    ran = fit(**flags)
    assert (ran.witness.batches, ran.witness.validations) == (batches, validations)
    assert ran.trainer.global_step == len(ran.witness.stepped) == sum(batches)


@pytest.mark.parametrize(
    ("flags", "batches"), [({"min_epochs": 3}, [TRAIN] * 3), ({"min_steps": 10}, [TRAIN, TRAIN, 2])], ids=str
)
def test_nothing_stops_it_before_its_minimum(fit, flags, batches):
    def stopped(**more):
        stopping = EarlyStopping("validation/loss", patience=1, min_delta=100)  # after the second epoch
        return fit(max_epochs=5, callbacks=[stopping], **more).witness.batches

    assert stopped() == [TRAIN] * 2
    assert stopped(**flags) == batches


@pytest.mark.parametrize(("share", "batches"), [(1, 1), (0.5, 1), (1.0, TEST), (0, 0)], ids=str)
def test_it_tests_and_predicts_so_many_batches(fit, share, batches):
    ran = fit(max_epochs=1, limit_test_batches=share, limit_predict_batches=share)
    tested = ran.trainer.test(ran.model, ran.data, verbose=False)
    predicted = ran.trainer.predict(ran.model, ran.data.test_dataloader())
    assert len(predicted or ()) == batches
    assert ran.trainer.num_test_batches == [batches] * bool(batches)
    assert ("test/loss" in tested[0] if tested else False) is bool(batches)
    assert all(rows.shape == (BATCH, 2) for rows in predicted or ())


def test_loaders_that_are_made_again_serve_the_same(fit):
    plain = fit()
    again = fit(reload_dataloaders_every_n_epochs=1)
    assert differing(plain.weights, again.weights) == []
    made = [0, 0]
    for flags, place in (({}, 0), ({"reload_dataloaders_every_n_epochs": 1}, 1)):
        data = type(plain.data).train_dataloader

        def counting(self, place=place, data=data):
            made[place] += 1
            return data(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(plain.data), "train_dataloader", counting)
            fit(**flags)
    assert made == [1, 2]


@pytest.mark.parametrize("inference_mode", [True, False])
def test_inference_mode_is_as_asked(fit, inference_mode):
    ran = fit(max_epochs=1, inference_mode=inference_mode)
    ran.witness.inference.clear()  # that of a fit's validation is Lightning's own choice
    ran.trainer.validate(ran.model, ran.data, verbose=False)
    assert ran.witness.inference == {inference_mode}


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
def test_barebones_trains_the_same_and_does_nothing_else(fit):
    bare = fit(barebones=True)
    assert bare.trainer.barebones
    assert bare.trainer.callback_metrics == {}
    assert differing(bare.weights, fit().weights) == []
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("deterministic", [True, "warn"])
def test_deterministic_runs_use_such_algorithms_and_end_the_same(fit, deterministic):
    def see():
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    one, other = (fit(max_epochs=1, deterministic=deterministic, see=see) for _ in range(2))
    assert one.witness.seen == {(True, deterministic == "warn")}
    assert differing(one.weights, other.weights) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_anomalies_are_looked_for_if_asked(fit, wanted):
    assert fit(max_epochs=1, detect_anomaly=wanted, see=torch.is_anomaly_enabled).witness.seen == {wanted}


@pytest.mark.parametrize("wanted", [True, False])
def test_cudnn_benchmarks_if_asked(fit, wanted):
    ran = fit(max_epochs=1, benchmark=wanted, see=lambda: torch.backends.cudnn.benchmark)
    assert ran.witness.seen == {wanted}


@pytest.mark.filterwarnings("ignore:.* AMP with fp16 is not supported on CPU")  # Lightning then takes bf16
@pytest.mark.parametrize(
    ("precision", "weights", "logits"),
    [
        ("32-true", torch.float32, torch.float32),
        ("64-true", torch.float64, torch.float64),
        ("bf16-mixed", torch.float32, torch.bfloat16),
        ("16-mixed", torch.float32, torch.bfloat16),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
        ("16-true", torch.float16, torch.float16),
    ],
)
def test_numbers_have_the_precision_that_was_asked_for(fit, runs, monkeypatch, precision, weights, logits):
    dtypes = set()
    forward = CASES[fit.case][0].forward

    def watching(self, inputs):
        result = forward(self, inputs)
        dtypes.add(result.dtype)
        return result

    monkeypatch.setattr(CASES[fit.case][0], "forward", watching)
    # AdamW divides by eps where a gradient is 0, and float16 has no 1e-8.
    ran = fit(precision=precision, model={"optimizer_options": {"eps": 1e-4}})
    assert {parameter.dtype for parameter in ran.model.parameters()} == {weights}
    assert dtypes == {logits}
    first, last = ran.witness.gradients[0], ran.trainer.callback_metrics
    assert {gradient.dtype for gradient in first} == {weights}
    assert all(bool(torch.isfinite(value)) for value in last.values())


def test_the_default_precision_is_the_machines_own(runs):
    assert runs.fit("feature-store", max_epochs=1).trainer.precision == default_precision()


@pytest.mark.parametrize("precision", ["transformer-engine", "transformer-engine-float16", "8-true"])
def test_other_precisions_are_refused_by_lightning(fit, precision):
    with pytest.raises(
        (ModuleNotFoundError, ValueError), match=r"transformer_engine|Precision '8-true' is invalid"
    ):
        fit(precision=precision)


@pytest.mark.filterwarnings("ignore:The PyTorch Profiler default schedule")
@pytest.mark.parametrize("profiler", ["simple", "advanced", pytest.param("pytorch", marks=pytest.mark.nightly)])
def test_profilers_see_the_training_steps(fit, caplog, profiler):
    with caplog.at_level("INFO", "lightning.pytorch"):
        fit(profiler=profiler)
    assert "FIT Profiler Report" in caplog.text
    assert "training_step" in caplog.text


def test_batchnorm_of_one_process_is_synchronised_with_none(fit):
    assert differing(fit(sync_batchnorm=True).weights, fit().weights) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_the_sampler_stays_ours(fit, wanted):
    """Under DDP it serves each process its share, so Lightning has nothing to put in its place."""
    ran = fit(max_epochs=1, use_distributed_sampler=wanted)
    loader = ran.trainer.train_dataloader
    assert (loader.batch_sampler or loader.sampler).__module__.startswith(("lightning_transfer", "torch"))
    assert differing(ran.weights, fit(max_epochs=1).weights) == []


@pytest.mark.parametrize(("number", "batches"), [(-1, VALIDATION), (0, 0), (1, 1)])
def test_the_sanity_check_has_so_many_batches_and_changes_nothing(fit, number, batches):
    ran = fit(num_sanity_val_steps=number)
    assert (ran.witness.sanity, ran.witness.validations) == (batches, [VALIDATION] * 2)
    assert differing(ran.weights, fit().weights) == []


@pytest.mark.parametrize(("interval", "rows"), [(1, 2 * TRAIN), (2, TRAIN)])
def test_what_is_logged_by_step_is_logged_so_often(fit, interval, rows):
    logger = CSVLogger("csv")
    fit(log_every_n_steps=interval, logger=logger, callbacks=[LearningRateMonitor("step")])
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    column = next(place for place, name in enumerate(lines[0].split(",")) if name.startswith("lr-"))
    assert sum(line.split(",")[column] != "" for line in lines[1:]) == rows


def test_loggers_get_each_epochs_scores(fit):
    loggers = [CSVLogger("one"), TensorBoardLogger("two")]
    scores = fit(logger=loggers, enable_autolog_hparams=True).trainer.callback_metrics
    table = (Path(loggers[0].log_dir) / "metrics.csv").read_text()
    events = EventAccumulator(loggers[1].log_dir).Reload()
    for name in ("train/loss", "validation/accuracy"):
        assert name in table.splitlines()[0].split(",")
        assert [event.step for event in events.Scalars(name)] == [TRAIN - 1, 2 * TRAIN - 1]
        assert events.Scalars(name)[-1].value == pytest.approx(float(scores[name]))
    assert yaml.safe_load((Path(loggers[1].log_dir) / "hparams.yaml").read_text())["num_classes"] == 2


def test_loggers_are_told_no_arguments_if_so_asked(fit):
    logger = CSVLogger("one")
    fit(max_epochs=1, logger=logger, enable_autolog_hparams=False)
    hparams = Path(logger.log_dir) / "hparams.yaml"
    assert not hparams.exists() or not yaml.safe_load(hparams.read_text())


def test_lightnings_default_logger_and_checkpoint_lie_in_the_folder_asked_for(fit):
    ran = fit(max_epochs=1, logger=True, enable_checkpointing=True, default_root_dir="here")
    saved = Path(ran.trainer.checkpoint_callback.best_model_path)
    assert saved.exists()
    assert saved.resolve().is_relative_to(Path("here").resolve())
    assert os.listdir() == ["here"]


def test_nothing_is_written_where_loggers_and_checkpoints_are_off(fit):
    ran = fit(logger=False, enable_checkpointing=False)
    assert ran.trainer.loggers == ran.trainer.checkpoint_callbacks == []
    assert list(Path().iterdir()) == []
    assert set(ran.trainer.callback_metrics) >= {"train/loss", "validation/loss"}


@pytest.mark.filterwarnings("ignore:Precision .* is not supported by the model summary")
@pytest.mark.parametrize("wanted", [True, False])
def test_bar_and_summary_are_shown_if_asked(fit, capsys, wanted):
    fit(max_epochs=1, enable_progress_bar=wanted, enable_model_summary=wanted)
    said = capsys.readouterr()
    assert ("Epoch 0" in said.out + said.err) is wanted
    assert ("TransferNetwork" in said.out + said.err) is wanted
