"""The comparison's numbers are those of the checkpoints beside it, and nothing finished is run again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer import (
    FeatureClassifier,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
)
from lightning_transfer.cli.commands.compare import compare
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.comparison import compare as comparison
from lightning_transfer.comparison import run as regimes
from lightning_transfer.data.decoding import load_image, resize_image, to_tensor
from lightning_transfer.data.folder import scan_folder
from lightning_transfer.errors import BackboneError, DataError, OutputError
from lightning_transfer.monitoring.plots import PLOTS, Plots
from runs import differing

MODULES = {
    "feature_extraction": FeatureClassifier,
    "frozen_backbone": FrozenBackboneClassifier,
    "fine_tuning": FineTuningClassifier,
}
SMALL = {"backbone": "squeezenet1_1", "weights": "none", "epochs": 2}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary"),
    # A run that goes on saves where it saved before.
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("compared"), counts=(12, 6, 20))


@pytest.fixture(scope="module")
def compared(folder, tmp_path_factory):
    """A finished comparison: its folder and what it returned."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    return out, compare(str(folder), **SMALL, out=str(out))


def best(out, regime, seed=0):
    path = out / regime / f"seed_{seed}" / "best.ckpt"
    return MODULES[regime].load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()


@pytest.mark.parametrize("regime", MODULES)
def test_the_reports_numbers_are_those_of_the_checkpoints(compared, folder, regime):
    out, outcomes = compared
    samples = scan_folder(folder).splits["test"]
    images = torch.stack(
        [to_tensor(resize_image(load_image(folder / path), 224, "squash")) for path in samples.paths]
    )
    model = best(out, regime)
    with (
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16, enabled=regimes.default_precision() == "bf16-mixed"),
    ):
        probabilities = model(images).float().softmax(dim=1).numpy()
    labels = np.array(samples.labels)
    (outcome,) = outcomes[regime]
    assert outcome.accuracy == pytest.approx((probabilities.argmax(axis=1) == labels).mean(), abs=0.026)
    assert outcome.auroc == pytest.approx(roc_auc_score(labels, probabilities[:, 1]), abs=0.02)
    assert outcome.right.mean() == pytest.approx(outcome.accuracy)
    metrics = json.loads((out / "metrics.json").read_text())["regimes"][regime]
    assert metrics["test_accuracy"] == pytest.approx(outcome.accuracy)
    assert metrics["seconds"] == pytest.approx(sum(outcome.seconds.values()))
    assert f"{outcome.accuracy:.1%}" in (out / "report.md").read_text()


def test_it_leaves_what_it_promises(compared):
    out, outcomes = compared
    assert {path.name for path in out.iterdir()} == {
        *MODULES,
        *("arguments.json", "confusion.png", "curves.png", "features", "logs", "metrics.json", "report.md"),
    }
    for regime in MODULES:
        names = {path.name for path in (out / regime / "seed_0").iterdir()}
        checkpoints = {f"{name}.ckpt{suffix}" for name in ("best", "last") for suffix in ("", ".sha256")}
        assert names == {*checkpoints, "outcome.json", "predictions.npz", "metrics.csv", "curves.png"}
        events = EventAccumulator(str(out / "logs" / f"{regime}_seed_0")).Reload()
        assert len(events.Scalars("validation/accuracy")) == 2
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["regimes"]) == list(MODULES)
    assert len(metrics["differences"]) == 3
    model = best(out, "fine_tuning")
    head = sum(p.numel() for p in model.head.parameters())
    frozen = sum(
        p.numel() for name in ("stem", "fire2", "fire3") for p in model.backbone.stages[name].parameters()
    )
    assert outcomes["frozen_backbone"][0].trainable_parameters == head
    assert outcomes["fine_tuning"][0].trainable_parameters == sum(p.numel() for p in model.parameters()) - frozen


def test_the_same_command_again_runs_nothing(compared, folder, monkeypatch):
    out, outcomes = compared

    def refuse(*_, **__):
        raise AssertionError("a Trainer was called")

    monkeypatch.setattr(Trainer, "fit", refuse)
    monkeypatch.setattr(Trainer, "predict", refuse)
    again = compare(str(folder), **SMALL, out=str(out))
    for regime in MODULES:
        assert again[regime][0].accuracy == outcomes[regime][0].accuracy
        assert np.array_equal(again[regime][0].right, outcomes[regime][0].right)


@pytest.fixture
def plotless(monkeypatch):
    monkeypatch.setattr(regimes, "Plots", lambda: Plots(**dict.fromkeys(PLOTS, False)))


def without_fine_tuning(out, folder):
    """A copy of a comparison that was stopped before its last regime."""
    shutil.copytree(
        out, folder, ignore=shutil.ignore_patterns("fine_tuning*", "report.md", "metrics.json", "*.png")
    )
    return str(folder)


@pytest.mark.usefixtures("plotless")
def test_what_was_stopped_goes_on(compared, folder, tmp_path, monkeypatch):
    """Stopped after the last regime's first epoch: what was finished stays, and the rest ends the same."""
    fits = []
    fit = Trainer.fit

    class StoppedError(Exception):
        pass

    def counted(self, model, *args, **arguments):
        fits.append(type(model).__name__)
        if len(fits) == 1:
            self.fit_loop.max_epochs = 1
            fit(self, model, *args, **arguments)
            raise StoppedError
        fit(self, model, *args, **arguments)

    monkeypatch.setattr(Trainer, "fit", counted)
    # The schedule of rates is told the whole length all the same, as in a run that is killed.
    monkeypatch.setitem(regimes.ARGUMENTS, "fine_tuning", {"lr": 5e-4})
    stopped = without_fine_tuning(compared[0], tmp_path / "stopped")
    with pytest.raises(StoppedError):
        compare(str(folder), **SMALL, out=stopped)
    assert not (tmp_path / "stopped" / "report.md").exists()
    compare(str(folder), **SMALL, out=stopped)
    compare(str(folder), **SMALL, out=without_fine_tuning(compared[0], tmp_path / "whole"))
    assert fits == 3 * ["FineTuningClassifier"]
    whole, continued = (best(tmp_path / name, "fine_tuning").state_dict() for name in ("whole", "stopped"))
    assert differing(whole, continued) == []
    histories = [
        json.loads((tmp_path / name / "fine_tuning" / "seed_0" / "outcome.json").read_text())["history"]
        for name in ("whole", "stopped")
    ]
    assert [epoch["train/loss"] for epoch in histories[0]] == [epoch["train/loss"] for epoch in histories[1]]


@pytest.mark.usefixtures("plotless")
def test_fine_tuning_starts_from_the_frozen_backbones_run(compared, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(regimes.ARGUMENTS, "fine_tuning", {"lr": 0.0, "audit_freezing": False})
    out = tmp_path / "out"
    compare(str(folder), **SMALL, out=without_fine_tuning(compared[0], out))
    assert differing(*(best(out, regime).state_dict() for regime in ("frozen_backbone", "fine_tuning"))) == []


@pytest.mark.usefixtures("plotless")
def test_several_seeds_are_several_runs_on_the_same_images(tmp_path, weights_file):
    unsplit = tmp_path / "unsplit"
    for name in ("cats", "dogs"):
        for number in range(16):
            draw_image(unsplit / name / f"{number}.jpg", COLOURS[name], number)
    out = tmp_path / "out"
    outcomes = compare(str(unsplit), "squeezenet1_1", str(weights_file), epochs=1, seeds=2, out=str(out))
    assert [len(seeds) for seeds in outcomes.values()] == [2, 2, 2]
    labels = [np.load(out / "frozen_backbone" / f"seed_{seed}" / "predictions.npz")["labels"] for seed in (0, 1)]
    assert np.array_equal(*labels)
    assert len(list((out / "features").glob("[!.]*"))) == 1, "another seed extracted again"
    heads = [best(out, "frozen_backbone", seed).head.logits.weight for seed in (0, 1)]
    assert not torch.equal(*heads)


def test_another_comparison_does_not_go_on_in_the_same_folder(compared, folder):
    out, _ = compared
    with pytest.raises(DataError, match=r"holds a comparison with epochs=2 and not 3: pass another out"):
        compare(str(folder), **(SMALL | {"epochs": 3}), out=str(out))


def test_changed_images_or_options_are_another_comparison(compared, folder, tmp_path):
    out, _ = compared
    copied = tmp_path / "images"
    shutil.copytree(folder, copied)
    named = tmp_path / "out"
    shutil.copytree(out, named)
    note = json.loads((named / "arguments.json").read_text())
    (named / "arguments.json").write_text(json.dumps(note | {"data": str(copied), "root": str(copied)}))
    compare(str(copied), **SMALL, out=str(named), options=DataOptions(num_workers=0))
    (copied / "train" / "cats" / "cats.0.jpg").rename(copied / "train" / "dogs" / "cats.0.jpg")
    with pytest.raises(DataError, match=r"holds a comparison with images=24 train, .* and not 24 train, 12 val"):
        compare(str(copied), **SMALL, out=str(named))
    with pytest.raises(DataError, match="with duplicates=drop and not keep: pass another out"):
        compare(str(folder), **SMALL, out=str(out), options=DataOptions(duplicates="keep"))
    with pytest.raises(DataError, match="image_size=224 and not 64, images="):
        compare(str(folder), **SMALL, out=str(out), options=DataOptions(image_size=64))


@pytest.mark.usefixtures("plotless")
def test_where_there_is_no_test_split_one_is_made_and_what_is_left_out_is_listed(
    command, folder, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(comparison, "REGIMES", ("feature_extraction",))
    monkeypatch.setattr(comparison, "advice", lambda outcomes: "")
    shutil.copytree(folder, tmp_path / "images", ignore=shutil.ignore_patterns("test"))
    (tmp_path / "images" / "notes.txt").write_text("")
    flags = ["--data=images", "--backbone=squeezenet1_1", "--weights=none", "--epochs=1", "--image_size=64"]
    assert command("compare", *flags, "--seed=3") == 0
    said = " ".join("".join(capfd.readouterr()).split())
    assert "There are no test images: the 12 of validation are tested on, and 4 of 24 are held out" in said
    assert "1 left out: not an image: .txt (notes.txt)" in said
    assert "All that is left out: comparison/left_out.csv" in said
    assert "images/notes.txt" in Path("comparison/left_out.csv").read_text()
    assert not Path("left_out.csv").exists()
    assert [path.name for path in Path("comparison/feature_extraction").iterdir()] == ["seed_3"]


def test_the_callers_data_module_is_not_changed(folder, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    def stop(*_):
        raise StoppedError

    monkeypatch.setattr(comparison, "Run", stop)
    shutil.copytree(folder, tmp_path / "images", ignore=shutil.ignore_patterns("test"))
    report = tmp_path / "mine.csv"
    images = ImageFolderDataModule(str(tmp_path / "images"), left_out_report=str(report))
    images.setup()
    before = dict(vars(images))
    with pytest.raises(StoppedError):
        comparison.compare(images, "squeezenet1_1", weights="none", out=tmp_path / "out")
    assert vars(images) == before
    assert images.splits == ("train", "validation")


def test_a_list_that_cannot_be_written_leaves_no_comparison(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "images")
    (tmp_path / "images" / "notes.txt").write_text("")
    (tmp_path / "list.csv").mkdir()
    options = DataOptions(left_out_report=str(tmp_path / "list.csv"))
    with pytest.raises(OutputError, match="pass another left_out_report"):
        compare(str(tmp_path / "images"), **SMALL, out=str(tmp_path / "out"), options=options)
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_come_with_the_library_are_refused(folder, tmp_path):
    with pytest.raises(
        BackboneError, match="No weights of resnet18 come with this library, only those of mobilenet_v3_small"
    ):
        compare(str(folder), backbone="resnet18", weights="bundled", out=str(tmp_path / "out"))


def test_the_command_line_prints_table_and_advice(command, compared, folder, capsys):
    out, _ = compared
    flags = ["--backbone=squeezenet1_1", "--weights=none", "--epochs=2", f"--out={out}"]
    assert command("compare", "--data", folder, *flags) == 0
    said = capsys.readouterr().out
    assert "Choose " in said
    assert "p = " in said
    for regime in ("feature extraction", "frozen backbone", "fine-tuning"):
        assert regime in said
    assert command("compare", "--data", "nowhere", "--out=elsewhere") == 1
    assert "nowhere does not exist" in capsys.readouterr().err
    assert not Path("elsewhere").exists(), "a mistyped name is no comparison"


@pytest.mark.parametrize(
    ("stages", "epochs", "schedule"),
    [
        (("a",), 10, {0: ["head", "a"]}),
        (("a", "b", "c"), 12, {0: ["head", "c"], 4: ["b"]}),
        (("a", "b", "c", "d"), 2, {0: ["head", "d", "c", "b", "a"]}),
    ],
)
def test_the_schedule_unfreezes_by_thirds(stages, epochs, schedule):
    assert regimes.by_thirds(stages, epochs) == schedule
