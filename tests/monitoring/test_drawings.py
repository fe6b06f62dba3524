"""What stands in TensorBoard's files is what the network says of the validation images."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from sklearn.metrics import precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from lightning_transfer import (
    ConfusionMatrix,
    FeatureClassifier,
    FeatureDataModule,
    FeatureMaps,
    FeatureProjector,
    FineTuningClassifier,
    FirstLayerFilters,
    FrozenBackboneClassifier,
    Hyperparameters,
    ModelGraph,
    PrecisionRecall,
    StagedUnfreeze,
    WrongImages,
    extract_features,
)
from lightning_transfer.errors import CallbackError
from lightning_transfer.monitoring import confusion_matrix, figures
from lightning_transfer.monitoring.drawings import DRAWINGS, Drawings
from lightning_transfer.monitoring.group import DrawingGroup
from runs import Stranger, images_of, noise

STAGES = ("stem", "fire2", "fire3", "fire4", "fire5", "fire6", "fire7", "fire8", "fire9")
REGIMES = [FeatureClassifier, FrozenBackboneClassifier, FineTuningClassifier]


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


def image(found, tag):
    return Image.open(io.BytesIO(found.Images(tag)[-1].encoded_image_string))


def model_of(regime, weights_file, **arguments):
    torch.manual_seed(0)
    made = {"image_size": 64, "pool": "avg", "hidden": 16, "lr": 1e-2, "scheduler": "cosine"}
    return regime("squeezenet1_1", weights=str(weights_file), **(made | arguments))


@pytest.fixture(scope="module")
def runs(image_folder, weights_file, tmp_path_factory):
    """Folders, model and probabilities of the validation images, by regime, after two epochs with everything."""
    from lightning.pytorch import Trainer

    found = {}
    for regime in REGIMES:
        root = tmp_path_factory.mktemp(regime.__name__)
        model = model_of(regime, weights_file)
        images = images_of(image_folder, image_size=64)
        callbacks = [
            *Drawings.all().callbacks(),
            ModelCheckpoint(root / "saved", monitor="validation/accuracy", mode="max"),
        ]
        if regime is FineTuningClassifier:
            callbacks.append(StagedUnfreeze({0: ["head"], 1: ["fire9"]}))
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=2,
            logger=TensorBoardLogger(root, default_hp_metric=False),
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        data = images
        if regime is FeatureClassifier:
            data = FeatureDataModule(
                extract_features(trainer, model.backbone, images, root=root / "store"), images=images
            )
        trainer.fit(model, data)
        modes = {name: part.training for name, part in model.named_modules()}
        with torch.no_grad():
            model.eval()
            logits = torch.cat([model(batch) for batch, _ in images.val_dataloader()])
        found[regime] = (root, Path(trainer.logger.log_dir), model, logits.softmax(1), modes)
    return found


@pytest.fixture(params=REGIMES, ids=lambda regime: regime.__name__)
def run(request, runs):
    return runs[request.param]


LABELS = [0] * 6 + [1] * 6


def test_there_is_a_flag_for_each(run):
    assert Drawings().callbacks() == []
    (some,), (everything,) = Drawings(graph=True, filters=True).callbacks(), Drawings.all().callbacks()
    assert [type(drawing) for drawing in some.drawings] == [ModelGraph, FirstLayerFilters]
    assert {type(drawing) for drawing in everything.drawings} == set(DRAWINGS.values())
    tags = events(run[1]).Tags()
    assert set(tags["images"]) == {
        "confusion_matrix",
        "wrong_images",
        "first_layer_filters",
        *(f"feature_maps/{name}" for name in STAGES),
    }
    assert set(tags["tensors"]) == {"precision_recall/cats", "precision_recall/dogs"}
    assert tags["graph"]


def test_drawing_changes_no_modes(run):
    _, _, model, _, modes = run
    unfrozen = ("network.backbone.stages.fire9",) if isinstance(model, FineTuningClassifier) else ()
    for name, training in modes.items():
        if name.startswith("network.backbone.stages."):
            assert training is name.startswith(unfrozen), name
    assert modes["head"]


def test_precision_and_recall_are_scikit_learns(run):
    _, folder, _, probabilities, _ = run
    for label, name in enumerate(("cats", "dogs")):
        (event,) = events(folder).Tensors(f"precision_recall/{name}")
        *_, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
        truth = np.array(LABELS) == label
        expected = {}
        for threshold in np.arange(127) / 126:
            taken = probabilities[:, label].numpy() >= threshold
            if taken.any():
                expected[threshold] = precision_score(truth, taken), recall_score(truth, taken)
        ours = [(p, r) for p, r in zip(precision, recall, strict=True) if p > 0 or r > 0]
        assert len(set(ours)) > 2
        # A probability may lie so near a threshold that rounding puts it on the other side.
        differing = sum(pair != pytest.approx(other) for pair, other in zip(ours, expected.values(), strict=False))
        assert differing <= 2


def test_the_projector_has_the_features_and_who_they_are_of(run, image_folder):
    _, folder, model, probabilities, _ = run
    (place,) = folder.glob("*/features")
    rows = list(csv.DictReader((place / "metadata.tsv").read_text().splitlines(), delimiter="\t"))
    files = [f"validation/{name}/{name}.{i}.jpg" for name in ("cats", "dogs") for i in range(6)]
    names = np.array(["cats", "dogs"])
    assert [row["file"] for row in rows] == files
    assert [row["truth"] for row in rows] == names[LABELS].tolist()
    assert [row["prediction"] for row in rows] == names[probabilities.argmax(1)].tolist()
    images = images_of(image_folder, image_size=64).dataset("validation")
    with torch.no_grad():
        expected = model.backbone.eval()(torch.stack([images[i][0] for i in range(12)])).mean((2, 3))
    found = np.loadtxt(place / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(found, expected, atol=2e-2, rtol=2e-2)  # a store's are float16
    with Image.open(place / "sprite.png") as sprite:
        assert sprite.size == (4 * 48, 4 * 48)
        corner = np.asarray(sprite.convert("RGB"))[:48, :48]
    np.testing.assert_allclose(corner, np.asarray(images.image(0).resize((48, 48))), atol=1)
    assert "sprite" in (folder / "projector_config.pbtxt").read_text()


def test_feature_maps_are_a_row_a_image(run):
    found = events(run[1])
    for name in STAGES:
        assert image(found, f"feature_maps/{name}").size == (9 * 100 - 4, 4 * 100 - 4)
    assert image(found, "first_layer_filters").size == (8 * 100 - 4, 8 * 100 - 4)  # 64 filters


def test_the_graph_has_the_stages(run):
    nodes = {node.name for node in events(run[1]).Graph().node}
    for name in (*STAGES, "head"):
        assert any(f"[{name}]" in node for node in nodes), name


def hparams(folder):
    plugin = events(folder).summary_metadata
    contents = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
        for tag, metadata in plugin.items()
        if tag.startswith("_hparams_")
    }
    return (
        contents["_hparams_/experiment"].experiment,
        contents["_hparams_/session_start_info"].session_start_info,
        contents["_hparams_/session_end_info"].session_end_info,
    )


def test_hyperparameters_stand_beside_scores_that_are_logged(run):
    _, folder, model, _, _ = run
    experiment, start, end = hparams(folder)
    values = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    assert values["regime"] == type(model).__name__
    assert (values["backbone"], values["pool"], values["scheduler"]) == ("squeezenet1_1", "avg", "cosine")
    assert (values["lr"], values["hidden"], values["epochs"]) == (0.01, 16, 2)
    assert values["head_from"] == "none"  # each run has each column
    metrics = [metric.name.tag for metric in experiment.metric_infos]
    assert metrics[0] == "best/validation/accuracy"
    assert set(metrics) <= set(events(folder).Tags()["scalars"])
    accuracies = [event.value for event in events(folder).Scalars("validation/accuracy")]
    (best,) = events(folder).Scalars("best/validation/accuracy")
    assert best.value == pytest.approx(max(accuracies))
    assert end.status == 1  # success


@pytest.fixture
def drawn(monkeypatch, quiet_trainer, image_folder, tmp_path, weights_file):
    """Fits with one callback, and gives what it handed to matplotlib."""

    def fit(callback, module=None, name=None, epochs=2, **arguments):
        seen = []
        if module is not None:
            draw = getattr(module, name)

            def noting(*given):
                seen.append(given)
                return draw(*given)

            monkeypatch.setattr(module, name, noting)
        model = model_of(FrozenBackboneClassifier, weights_file)
        logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
        arguments = {"logger": logger, "log_every_n_steps": 1, "max_epochs": epochs} | arguments
        quiet_trainer(callbacks=[callback], **arguments).fit(model, images_of(image_folder, image_size=64))
        with torch.no_grad():
            model.eval()
            logits = [model(batch) for batch, _ in images_of(image_folder, image_size=64).val_dataloader()]
        return seen, torch.cat(logits).softmax(1), events(logger.log_dir)

    return fit


def test_wrong_images_are_the_most_certain_of_the_wrong_ones(drawn, image_folder):
    seen, probabilities, found = drawn(WrongImages(count=3), figures, "gallery")
    ((shown, captions, title),) = seen
    certainty, predictions = probabilities.max(1)
    wrong = sorted((i for i in range(12) if predictions[i] != LABELS[i]), key=lambda i: -certainty[i])
    assert len(wrong) > 1
    names = ("cats", "dogs")
    for i, caption in zip(wrong[:3], captions, strict=True):
        file, said = caption.split("\n")
        assert file == f"{names[LABELS[i]]}.{i % 6}.jpg"
        assert said == f"{names[LABELS[i]]}, taken for {names[predictions[i]]}, {certainty[i]:.1%}"
    assert title.startswith(f"{len(wrong)} of 12 validation images are wrong")
    images = images_of(image_folder, image_size=64).dataset("validation")
    np.testing.assert_array_equal(shown[0], np.asarray(images.image(wrong[0])))
    assert image(found, "wrong_images").size[0] == 880


def test_the_matrix_counts_every_validation_image(drawn, monkeypatch):
    plotted = []
    metric = confusion_matrix.MulticlassConfusionMatrix
    plot = metric.plot

    def noting(self, **arguments):
        plotted.append((self.compute(), arguments["labels"]))
        return plot(self, **arguments)

    monkeypatch.setattr(metric, "plot", noting)
    _, probabilities, _ = drawn(ConfusionMatrix())
    ((matrix, labels),) = plotted
    expected = torch.zeros(2, 2, dtype=torch.int64)
    for label, prediction in zip(LABELS, probabilities.argmax(1).tolist(), strict=True):
        expected[label, prediction] += 1
    assert labels == ["cats", "dogs"]
    assert torch.equal(matrix, expected)


@pytest.mark.parametrize(
    ("every", "epochs", "steps"), [(None, 4, [20]), (1, 3, [5, 10, 15]), (2, 5, [10, 20, 25])]
)
def test_it_draws_at_the_end_and_as_often_as_asked(drawn, every, epochs, steps):
    _, _, found = drawn(FirstLayerFilters(every), epochs=epochs)
    assert [event.step for event in found.Images("first_layer_filters")] == steps


@pytest.mark.parametrize("kind", DRAWINGS.values())
def test_a_group_passes_on_every_hook_that_a_drawing_has(kind):
    hooks = [name for name in vars(Callback) if name.startswith(("on_", "setup", "teardown", "state", "load"))]
    own = {name for name in hooks if getattr(kind, name) is not getattr(Callback, name)}
    assert {"setup", "on_train_end"} <= own
    assert own <= set(vars(DrawingGroup))


class Stop(Callback):
    """Ends a run early, as EarlyStopping does."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


@pytest.mark.parametrize("stop", [[], [Stop()]])
def test_the_projector_takes_the_last_epochs_features_wherever_that_is(
    stop, quiet_trainer, image_folder, tmp_path, weights_file
):
    model = model_of(FineTuningClassifier, weights_file)
    trained = StagedUnfreeze({0: ["head", "fire9"]})
    trainer = quiet_trainer(
        callbacks=[FeatureProjector(), trained, *stop],
        logger=TensorBoardLogger(tmp_path, default_hp_metric=False),
        max_epochs=3,
        log_every_n_steps=1,
    )
    trainer.fit(model, images_of(image_folder, image_size=64))
    assert trainer.current_epoch == (1 if stop else 3)
    (table,) = tmp_path.rglob("tensors.tsv")
    images = images_of(image_folder, image_size=64).dataset("validation")
    with torch.no_grad():
        expected = model.backbone.eval()(torch.stack([images[i][0] for i in range(12)])).mean((2, 3))
    np.testing.assert_allclose(np.loadtxt(table), expected, atol=1e-3)


@pytest.mark.filterwarnings("ignore:No (negative|positive) samples")  # one batch, of one class
def test_a_trial_run_draws_nothing(quiet_trainer, image_folder, tmp_path, weights_file):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    trainer = quiet_trainer(callbacks=Drawings.all().callbacks(), logger=logger, fast_dev_run=True)
    trainer.fit(model_of(FrozenBackboneClassifier, weights_file), images_of(image_folder, image_size=64))
    assert not list(tmp_path.rglob("*"))


def test_what_is_missing_is_said_before_anything_is_computed(quiet_trainer, weights_file, image_folder, tmp_path):
    model = model_of(FrozenBackboneClassifier, weights_file)
    images = images_of(image_folder, image_size=64)
    for kind in DRAWINGS.values():
        callback = kind()
        trainer = quiet_trainer(callbacks=[callback], logger=CSVLogger(tmp_path), max_epochs=1)
        with pytest.raises(
            CallbackError, match=rf"{type(callback).__name__} draws for TensorBoard, and this Trainer"
        ):
            trainer.fit(model, images)
    with pytest.raises(CallbackError, match="every_n_epochs=0"):
        ConfusionMatrix(every_n_epochs=0)

    def fit(callback, module, *data):
        logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
        quiet_trainer(callbacks=[callback], logger=logger, max_epochs=1).fit(module, *data)

    loaders = (images.loader("train"), images.loader("validation"))
    for callback in (WrongImages(), FeatureProjector(), FeatureMaps()):
        with pytest.raises(CallbackError, match="the loaders passed to fit have none"):
            fit(callback, model, *loaders)
    for callback in (ModelGraph(), FirstLayerFilters()):
        with pytest.raises(CallbackError, match=r"looks into the module's backbone, and Stranger has no Backbone"):
            fit(callback, Stranger(), noise(), noise())
    with pytest.raises(CallbackError, match="Stranger has no attribute head"):
        fit(FeatureProjector(), Stranger(), images)
    with pytest.raises(CallbackError, match=r"ConfusionMatrix draws what validation_step returns.*NoneType"):
        fit(ConfusionMatrix(), Stranger(), noise(), noise())


def test_other_peoples_modules_and_data_are_drawn(quiet_trainer, tmp_path):
    class Telling(Stranger):
        def validation_step(self, batch, batch_idx):
            return self(batch[0])

    class Data(LightningDataModule):
        class_names = ("even", "odd")

        def train_dataloader(self):
            return noise()

        def val_dataloader(self):
            return noise()

    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    callbacks = [ConfusionMatrix(), PrecisionRecall(), Hyperparameters()]
    trainer = quiet_trainer(callbacks=callbacks, logger=logger, max_epochs=1, log_every_n_steps=1)
    trainer.fit(Telling(), Data())
    tags = events(logger.log_dir).Tags()
    assert set(tags["tensors"]) == {"precision_recall/even", "precision_recall/odd"}
    assert tags["images"] == ["confusion_matrix"]


def test_features_of_other_images_are_refused(quiet_trainer, weights_file, image_folder, tmp_path):
    from lightning_transfer.errors import StoreError

    model = model_of(FeatureClassifier, weights_file)
    store = extract_features(
        quiet_trainer(), model.backbone, images_of(image_folder, image_size=64), root=tmp_path
    )
    with pytest.raises(StoreError, match="holds features of other train images"):
        FeatureDataModule(store, images=images_of(image_folder, image_size=64, max_samples=3)).setup()
    trainer = quiet_trainer(callbacks=[WrongImages()], logger=TensorBoardLogger(tmp_path), max_epochs=1)
    with pytest.raises(CallbackError, match=r"FeatureDataModule has none.*FeatureDataModule\(store, images=…\)"):
        trainer.fit(model, FeatureDataModule(store))


DDP = """
import sys, warnings, torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_transfer import FrozenBackboneClassifier, ImageFolderDataModule
from lightning_transfer.monitoring.drawings import Drawings
warnings.filterwarnings("ignore")
torch.manual_seed(0)
images, weights, out, devices = sys.argv[1:]
model = FrozenBackboneClassifier("squeezenet1_1", weights=weights, image_size=64, pool="avg", hidden=16, lr=0.0, audit_freezing=False)
images = ImageFolderDataModule(images, image_size=64, batch_size=5, num_workers=0, max_samples=11)
trainer = Trainer(accelerator="cpu", devices=int(devices), strategy="ddp", max_epochs=1, enable_progress_bar=False,
    logger=TensorBoardLogger(out, name="", version=devices, default_hp_metric=False), enable_model_summary=False,
    callbacks=Drawings.all().callbacks(), enable_checkpointing=False)
trainer.fit(model, images)
"""


@pytest.mark.slow
def test_two_processes_draw_what_one_does(image_folder, weights_file, tmp_path):
    """Eleven images, which do not come out even; a rate of nought leaves both with the same network."""
    script = tmp_path / "ddp.py"
    script.write_text(DDP)
    for devices in (1, 2):
        done = subprocess.run(
            [sys.executable, script, image_folder, weights_file, tmp_path, str(devices)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = events(tmp_path / "1"), events(tmp_path / "2")
    assert one.Tags() == two.Tags()
    for name in ("cats", "dogs"):
        curves = [
            tensor_util.make_ndarray(found.Tensors(f"precision_recall/{name}")[0].tensor_proto)
            for found in (one, two)
        ]
        np.testing.assert_allclose(*curves)
    tables = [next((tmp_path / n).glob("*/features")) for n in ("1", "2")]
    assert (tables[0] / "metadata.tsv").read_text() == (tables[1] / "metadata.tsv").read_text()
    features = [np.loadtxt(table / "tensors.tsv") for table in tables]
    assert features[0].shape == (11, 512)
    np.testing.assert_allclose(*features, atol=1e-3)
