"""Plots show what the network says of the validation images, in whichever logger."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util
from torch.utils.data import DataLoader

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
    ImageFolderDataModule,
    ModelGraph,
    PrecisionRecall,
    StagedUnfreeze,
    WrongImages,
    extract_features,
)
from lightning_transfer.errors import CallbackError
from lightning_transfer.monitoring import figures
from lightning_transfer.monitoring.plot_callback import PlotCallback
from lightning_transfer.monitoring.plots import PLOTS, PlotGroup, Plots
from runs import Stranger, finished, images_of, noise

STAGES = ("stem", "fire2", "fire3", "fire4", "fire5", "fire6", "fire7", "fire8", "fire9")
REGIMES = [FeatureClassifier, FrozenBackboneClassifier, FineTuningClassifier]


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


def image(found, tag):
    return Image.open(io.BytesIO(found.Images(tag)[-1].encoded_image_string))


def pixels_of(images):
    """The validation images in the order of their files."""
    validation = images.dataset("validation")
    return torch.stack([validation[i][0] for i in range(len(validation))])


def model_of(regime, weights_file, **arguments):
    torch.manual_seed(0)
    made = {"image_size": 64, "pool": "avg", "hidden": 16, "lr": 1e-2, "scheduler": "cosine"}
    model = regime("squeezenet1_1", weights=str(weights_file), **(made | arguments))
    return model


@dataclass
class Run:
    """A regime after two epochs with every plot."""

    folder: Path  # of TensorBoard's files
    pngs: Path
    model: LightningModule
    probabilities: torch.Tensor  # of the validation images
    modes: dict[str, bool]
    made: dict[str, tuple]  # the arguments of each figure, by the function that made it


@pytest.fixture(scope="module")
def runs(image_folder, weights_file, tmp_path_factory):
    """The three regimes' runs."""
    found = {}
    for regime in REGIMES:
        root = tmp_path_factory.mktemp(regime.__name__)
        model = model_of(regime, weights_file)
        images = images_of(image_folder, image_size=64)
        saving = ModelCheckpoint(root / "saved", monitor="validation/accuracy", mode="max")
        callbacks = [*Plots().callbacks(), saving]
        if regime is FineTuningClassifier:
            callbacks.append(StagedUnfreeze({0: ["head"], 1: ["fire9"]}))
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=2,
            logger=[TensorBoardLogger(root, default_hp_metric=False), CSVLogger(root, "csv")],
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
        with pytest.MonkeyPatch.context() as monkeypatch:
            made = {name: recorded(monkeypatch, name) for name in ("gallery", "confusion_figure")}
            trainer.fit(model, data)
        modes = {name: part.training for name, part in model.named_modules()}
        with torch.no_grad():
            logits = model.eval()(pixels_of(images))
        folder, pngs = (Path(logger.log_dir) for logger in trainer.loggers)
        made = {name: given for name, (given,) in made.items()}
        found[regime] = Run(folder, pngs / "figures", model, logits.softmax(1), modes, made)
    return found


def recorded(monkeypatch, name):
    """A list that gets the arguments of each call of a function of `figures`."""
    seen, function = [], getattr(figures, name)

    def noting(*given):
        seen.append(given)
        return function(*given)

    monkeypatch.setattr(figures, name, noting)
    return seen


@pytest.fixture(params=REGIMES, ids=lambda regime: regime.__name__)
def run(request, runs):
    return runs[request.param]


LABELS = [0] * 6 + [1] * 6  # of the validation images, in the order of their files
ORDER = np.random.default_rng(0).permutation(12)  # in which they are validated
IMAGES = {
    "learning_curves",  # of History
    "confusion_matrix",
    "wrong_images",
    "first_layer_filters",
    *(f"feature_maps/{name}" for name in STAGES),
}


def test_there_is_a_flag_for_each(run):
    assert Plots(**dict.fromkeys(PLOTS, False)).callbacks() == []
    off = dict.fromkeys(PLOTS.keys() - {"graph", "filters"}, False)
    (some,), (everything,) = Plots(**off).callbacks(), Plots().callbacks()
    assert [type(plot) for plot in some.plots] == [ModelGraph, FirstLayerFilters]
    assert {type(plot) for plot in everything.plots} == set(PLOTS.values())
    tags = events(run.folder).Tags()
    assert set(tags["images"]) == IMAGES
    assert set(tags["tensors"]) == {"precision_recall/cats", "precision_recall/dogs"}
    assert tags["graph"]


def test_a_folder_gets_the_same_images_as_files(run):
    step = run.model.trainer.global_step
    files = {str(path.relative_to(run.pngs)) for path in run.pngs.rglob("*.png")}
    assert files == {f"{name}-{step}.png" for name in IMAGES}
    for tag in ("first_layer_filters", "feature_maps/fire5"):
        with Image.open(run.pngs / f"{tag}-{step}.png") as file:
            np.testing.assert_array_equal(np.asarray(file), np.asarray(image(events(run.folder), tag)))


def test_plotting_changes_no_modes(run):
    unfrozen = "backbone.stages.fire9" if isinstance(run.model, FineTuningClassifier) else "nothing"
    stages = {name: training for name, training in run.modes.items() if "backbone.stages." in name}
    assert stages
    for name, training in stages.items():
        assert training is (unfrozen in name), name
    assert run.modes.get("head", run.modes.get("network.head"))


def test_precision_and_recall_are_scikit_learns(run):
    for label, name in enumerate(("cats", "dogs")):
        (event,) = events(run.folder).Tensors(f"precision_recall/{name}")
        *_, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
        truth = np.array(LABELS) == label
        expected = {}
        for threshold in np.arange(127) / 126:
            taken = run.probabilities[:, label].numpy() >= threshold
            if taken.any():
                expected[threshold] = precision_score(truth, taken), recall_score(truth, taken)
        ours = [(p, r) for p, r in zip(precision, recall, strict=True) if p > 0 or r > 0]
        assert len(set(ours)) > 2
        # A probability may lie so near a threshold that rounding puts it on the other side.
        differing = sum(pair != pytest.approx(other) for pair, other in zip(ours, expected.values(), strict=False))
        assert differing <= 2


def test_the_projector_has_the_features_and_who_they_are_of(run, image_folder):
    (place,) = run.folder.glob("*/features")
    rows = list(csv.DictReader((place / "metadata.tsv").read_text().splitlines(), delimiter="\t"))
    files = [f"validation/{name}/{name}.{i}.jpg" for name in ("cats", "dogs") for i in range(6)]
    names = np.array(["cats", "dogs"])
    assert [row["file"] for row in rows] == [files[i] for i in ORDER]
    assert [row["truth"] for row in rows] == names[LABELS][ORDER].tolist()
    assert [row["prediction"] for row in rows] == names[run.probabilities.argmax(1)][ORDER].tolist()
    images = images_of(image_folder, image_size=64)
    with torch.no_grad():
        expected = run.model.backbone.eval()(pixels_of(images)[ORDER]).mean((2, 3))
    found = np.loadtxt(place / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(found, expected, atol=2e-2, rtol=2e-2)  # a store's are float16
    with Image.open(place / "sprite.png") as sprite:
        assert sprite.size == (4 * 48, 4 * 48)
        corner = np.asarray(sprite.convert("RGB"))[:48, :48]
    first = images.dataset("validation").image(int(ORDER[0]))
    np.testing.assert_allclose(corner, np.asarray(first.resize((48, 48))), atol=1)
    assert "sprite" in (run.folder / "projector_config.pbtxt").read_text()


def test_feature_maps_are_a_row_for_each_image(run):
    found = events(run.folder)
    for name in STAGES:
        assert image(found, f"feature_maps/{name}").size == (9 * 100 + 4, 4 * 100 + 4)
    assert image(found, "first_layer_filters").size == (8 * 100 + 4, 8 * 100 + 4)  # 64 filters


def test_the_graph_has_the_stages(run):
    nodes = {node.name for node in events(run.folder).Graph().node}
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
    experiment, start, end = hparams(run.folder)
    values = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    assert values["regime"] == type(run.model).__name__
    assert (values["backbone"], values["pool"], values["scheduler"]) == ("squeezenet1_1", "avg", "cosine")
    assert (values["lr"], values["hidden"], values["epochs"]) == (0.01, 16, 2)
    assert values["head_from"] == "none"  # each run has each column
    metrics = [metric.name.tag for metric in experiment.metric_infos]
    assert metrics[0] == "best/validation/accuracy"
    assert set(metrics) <= set(events(run.folder).Tags()["scalars"])
    accuracies = [event.value for event in events(run.folder).Scalars("validation/accuracy")]
    (best,) = events(run.folder).Scalars("best/validation/accuracy")
    assert best.value == pytest.approx(max(accuracies))
    assert end.status == 1  # success


def test_wrong_images_are_the_most_certain_of_the_wrong_ones(run, image_folder):
    shown, captions, title = run.made["gallery"]
    certainty, predictions = run.probabilities.max(1)
    wrong = sorted((i for i in range(12) if predictions[i] != LABELS[i]), key=lambda i: -certainty[i])
    assert wrong
    names = ("cats", "dogs")
    expected = {
        f"{names[LABELS[i]]}.{i % 6}.jpg": (f"{names[LABELS[i]]}, taken for {names[predictions[i]]}", certainty[i])
        for i in wrong
    }
    found = [caption.split("\n") for caption in captions]
    assert {file for file, _ in found} == expected.keys()
    shares = [float(said.rpartition(", ")[2].rstrip("%")) / 100 for _, said in found]
    assert shares == sorted(shares, reverse=True)
    for (file, said), share in zip(found, shares, strict=True):
        assert said.rpartition(", ")[0] == expected[file][0]
        assert share == pytest.approx(float(expected[file][1]), abs=5e-3)  # a store's features are float16
    assert title.startswith(f"{len(wrong)} of 12 validation images are wrong")
    images = images_of(image_folder, image_size=64).dataset("validation")
    first = next(i for i in wrong if f"{names[LABELS[i]]}.{i % 6}.jpg" == found[0][0])
    np.testing.assert_array_equal(shown[0], np.asarray(images.image(first)))
    assert image(events(run.folder), "wrong_images").size[0] == 880


@pytest.mark.parametrize("regime", [FeatureClassifier, FrozenBackboneClassifier])
def test_of_a_part_of_the_validation_images_each_has_its_own_name(
    regime, quiet_trainer, image_folder, weights_file, tmp_path, monkeypatch
):
    galleries = recorded(monkeypatch, "gallery")
    images = images_of(image_folder, image_size=64, augmentation=None)
    model = model_of(regime, weights_file, lr=1e-9)
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    arguments = {"limit_val_batches": 1, "limit_train_batches": 1, "max_epochs": 1, "log_every_n_steps": 1}
    trainer = quiet_trainer(callbacks=[WrongImages(), FeatureProjector()], logger=logger, **arguments)
    data = images
    if regime is FeatureClassifier:
        data = FeatureDataModule(
            extract_features(trainer, model.backbone, images, root=tmp_path), batch_size=5, images=images
        )
    trainer.fit(model, data)
    with torch.no_grad():
        taken = model.eval()(pixels_of(images)).argmax(1).tolist()
    files = {Path(path).name: i for i, path in enumerate(images.dataset("validation").samples.paths)}
    (table,) = tmp_path.rglob("metadata.tsv")
    rows = list(csv.DictReader(table.read_text().splitlines(), delimiter="\t"))
    validated = [files[Path(row["file"]).name] for row in rows]
    assert validated == ORDER[:5].tolist()
    names = ("cats", "dogs")
    for row, i in zip(rows, validated, strict=True):
        assert (row["truth"], row["prediction"]) == (names[LABELS[i]], names[taken[i]])
    ((shown, captions, title),) = galleries
    wrong = {i for i in validated if LABELS[i] != taken[i]}
    assert wrong
    assert {files[caption.split("\n")[0]] for caption in captions} == wrong
    assert title.startswith(f"{len(wrong)} of 5 ")
    for image, caption in zip(shown, captions, strict=True):
        name = caption.split("\n")[0]
        np.testing.assert_array_equal(image, np.asarray(images.dataset("validation").image(files[name])))


def test_other_peoples_order_is_kept(quiet_trainer, image_folder, weights_file, tmp_path, monkeypatch):
    """A subclass serves the validation images in the order of their files."""

    class InOrder(ImageFolderDataModule):
        def val_dataloader(self):
            return DataLoader(self.dataset("validation"), batch_size=5)

    galleries = recorded(monkeypatch, "gallery")
    images = InOrder(str(image_folder), image_size=64, batch_size=5, num_workers=0)
    trainer = quiet_trainer(
        callbacks=[WrongImages()], logger=CSVLogger(tmp_path), max_epochs=1, log_every_n_steps=1
    )
    model = model_of(FrozenBackboneClassifier, weights_file, lr=1e-9)
    trainer.fit(model, images)
    with torch.no_grad():
        taken = model.eval()(pixels_of(images)).argmax(1).tolist()
    paths = images.dataset("validation").samples.paths
    wrong = {Path(path).name for i, path in enumerate(paths) if LABELS[i] != taken[i]}
    ((_, captions, _),) = galleries
    assert wrong
    assert {caption.split("\n")[0] for caption in captions} == wrong


def test_the_matrix_counts_every_validation_image(run):
    matrices, names = run.made["confusion_figure"]
    assert names == ("cats", "dogs")
    np.testing.assert_array_equal(matrices[""], confusion_matrix(LABELS, run.probabilities.argmax(1)))


def test_no_more_wrong_images_than_asked_for_and_several_labels_an_image(monkeypatch):
    """Without a run: the callbacks get probabilities and labels."""
    images = SimpleNamespace(samples=SimpleNamespace(paths=["a/0.jpg", "a/1.jpg", "b/2.jpg"]), image=np.asarray)
    data = SimpleNamespace(dataset=lambda split: images, class_names=("cat", "dog", "hat"))
    logged = {}
    monkeypatch.setattr(PlotCallback, "log_figure", lambda _, trainer, name, figure: logged.update({name: figure}))
    monkeypatch.setattr(images, "image", lambda index: np.zeros((4, 4, 3), np.uint8))
    trainer = SimpleNamespace(datamodule=data)
    galleries, matrices = recorded(monkeypatch, "gallery"), recorded(monkeypatch, "confusion_figure")

    one_label = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7]]), torch.tensor([1, 2, 0])
    WrongImages(count=2).plot_validation(trainer, None, *one_label)
    assert galleries[-1][1] == ["1.jpg\nhat, taken for dog, 80.0%", "2.jpg\ncat, taken for hat, 70.0%"]

    probabilities = torch.tensor([[0.9, 0.1, 0.7], [0.1, 0.2, 0.3], [0.2, 0.9, 0.95]])
    labels = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 1, 0]])
    WrongImages().plot_validation(trainer, None, probabilities, labels)
    assert galleries[-1][1] == ["2.jpg\ndog, taken for dog + hat, 95.0%", "1.jpg\ncat, taken for none, 90.0%"]
    assert galleries[-1][2].startswith("2 of 3 validation")
    ConfusionMatrix().plot_validation(trainer, None, probabilities, labels)
    shown, names = matrices[-1]
    assert names == ("no", "yes")
    assert list(shown) == ["cat", "hat", "dog"]  # most errors first
    expected = multilabel_confusion_matrix(labels, probabilities >= 0.5)
    for name, matrix in zip(("cat", "dog", "hat"), expected, strict=True):
        np.testing.assert_array_equal(shown[name], matrix)
    assert len(logged["confusion_matrix"].axes) == 3


class Steps(PlotCallback):
    """Notes when it plots."""

    def plot(self, trainer, pl_module):
        self.seen = [*getattr(self, "seen", []), trainer.global_step]


@pytest.mark.parametrize(("every", "epochs", "steps"), [(None, 4, [16]), (1, 3, [4, 8, 12]), (2, 5, [8, 16, 20])])
def test_it_plots_at_the_end_and_as_often_as_asked(every, epochs, steps, quiet_trainer, tmp_path):
    callback = Steps(every)
    trainer = quiet_trainer(
        callbacks=[callback], logger=CSVLogger(tmp_path), max_epochs=epochs, log_every_n_steps=1
    )
    trainer.fit(Stranger(), noise())
    assert callback.seen == steps


@pytest.mark.parametrize("kind", PLOTS.values())
def test_a_group_passes_on_every_hook_that_a_plot_has(kind):
    hooks = [name for name in vars(Callback) if name.startswith(("on_", "setup", "teardown", "state", "load"))]
    own = {name for name in hooks if getattr(kind, name) is not getattr(Callback, name)}
    assert {"on_fit_start", "on_train_end"} <= own
    assert own <= set(vars(PlotGroup))


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
    with torch.no_grad():
        pixels = pixels_of(images_of(image_folder, image_size=64))
        expected = model.backbone.eval()(pixels[ORDER]).mean((2, 3))
    np.testing.assert_allclose(np.loadtxt(table), expected, atol=1e-3)


def test_a_trial_run_plots_nothing(quiet_trainer, image_folder, tmp_path, weights_file):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    trainer = quiet_trainer(callbacks=Plots().callbacks(), logger=logger, fast_dev_run=True)
    trainer.fit(model_of(FrozenBackboneClassifier, weights_file), images_of(image_folder, image_size=64))
    assert not list(tmp_path.rglob("*"))


def test_what_is_missing_is_said_before_anything_is_computed(quiet_trainer, weights_file, image_folder, tmp_path):
    model = model_of(FrozenBackboneClassifier, weights_file)
    images = images_of(image_folder, image_size=64)
    for callback in (Hyperparameters(), ModelGraph(), PrecisionRecall(), FeatureProjector()):
        trainer = quiet_trainer(callbacks=[callback], logger=CSVLogger(tmp_path), max_epochs=1)
        wanted = r"needs another logger: wanted TensorBoardLogger.*the Trainer has CSVLogger"
        with pytest.raises(CallbackError, match=f"{type(callback).__name__} {wanted}"):
            trainer.fit(model, images)
    for logger, got in ((False, "none"), (NoFolder(), "NoFolder")):
        trainer = quiet_trainer(callbacks=[ConfusionMatrix()], logger=logger, max_epochs=1)
        with pytest.raises(CallbackError, match=rf"ConfusionMatrix needs .*CSVLogger; the Trainer has {got}\."):
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
    for callback in (FeatureMaps(), FirstLayerFilters()):
        with pytest.raises(CallbackError, match=r"needs a Backbone as .*, and Stranger has none"):
            fit(callback, Stranger(), images)
    with pytest.raises(
        CallbackError, match=r"ModelGraph traces the module's attribute network.*Stranger has none"
    ):
        fit(ModelGraph(), Stranger(), noise(), noise())
    with pytest.raises(CallbackError, match="Stranger has no attribute head"):
        fit(FeatureProjector(), Stranger(), images)
    with pytest.raises(CallbackError, match=r"ConfusionMatrix plots what validation_step returns.*NoneType"):
        fit(ConfusionMatrix(), Stranger(), noise(), noise())


class Telling(Stranger):
    """Returns logits."""

    def validation_step(self, batch, batch_idx):
        return self(batch[0])


class NoFolder(Logger):
    """Someone else's, which keeps nothing on the disk."""

    name, version = "none", 0

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


def test_a_group_leaves_out_what_no_logger_takes(quiet_trainer, tmp_path):
    plots = Plots(wrong_images=False, feature_maps=False, filters=False)
    for logger in (CSVLogger(tmp_path), NoFolder(), False):
        trainer = quiet_trainer(callbacks=plots.callbacks(), logger=logger, max_epochs=1, log_every_n_steps=1)
        trainer.fit(Telling(), noise())
    assert [path.name for path in tmp_path.rglob("*.png")] == ["confusion_matrix-4.png"]


def test_a_group_leaves_out_what_the_module_has_too_little_for_and_says_so(
    quiet_trainer, tmp_path, capsys, caplog
):
    trainer = quiet_trainer(
        callbacks=Plots(graph=False).callbacks(), logger=CSVLogger(tmp_path), max_epochs=1, log_every_n_steps=1
    )
    with caplog.at_level("INFO"):
        trainer.fit(Telling(), noise())
    assert {path.name for path in tmp_path.rglob("*.png")} == {"confusion_matrix-4.png"}
    assert "Not plotted: WrongImages" in caplog.text + capsys.readouterr().err


def test_a_modules_task_says_what_probabilities_and_labels_are(quiet_trainer, tmp_path, monkeypatch):
    class Several(Telling):
        task = SimpleNamespace(
            probabilities=torch.sigmoid, hard_labels=lambda labels: torch.stack([labels, 1 - labels], 1)
        )

    matrices = recorded(monkeypatch, "confusion_figure")
    model = Several()
    quiet_trainer(
        callbacks=[ConfusionMatrix()], logger=CSVLogger(tmp_path), max_epochs=1, log_every_n_steps=1
    ).fit(model, noise())
    with torch.no_grad():
        logits = torch.cat([model.eval()(batch) for batch, _ in noise()])
    labels = torch.cat([labels for _, labels in noise()])
    expected = multilabel_confusion_matrix(torch.stack([labels, 1 - labels], 1), logits.sigmoid() >= 0.5)
    ((shown, _),) = matrices
    for name, matrix in zip("01", expected, strict=True):
        np.testing.assert_array_equal(shown[name], matrix)


def test_without_a_validation_nothing_is_plotted(quiet_trainer, tmp_path):
    """Also not what the sanity check saw."""
    arguments = {"max_epochs": 1, "check_val_every_n_epoch": 2, "log_every_n_steps": 1}
    trainer = quiet_trainer(callbacks=[ConfusionMatrix()], logger=CSVLogger(tmp_path), **arguments)
    trainer.fit(Telling(), noise(), noise())
    assert not list(tmp_path.rglob("*.png"))


def test_other_peoples_modules_and_data_are_plotted(quiet_trainer, tmp_path):
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
        FeatureDataModule(store, images=images_of(image_folder, image_size=64, max_images=3)).setup()
    trainer = quiet_trainer(callbacks=[WrongImages()], logger=TensorBoardLogger(tmp_path), max_epochs=1)
    with pytest.raises(CallbackError, match=r"FeatureDataModule has none.*FeatureDataModule\(store, images=…\)"):
        trainer.fit(model, FeatureDataModule(store))


DDP = """
import sys, warnings, torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_transfer import FrozenBackboneClassifier, ImageFolderDataModule
from lightning_transfer.monitoring.plots import Plots
warnings.filterwarnings("ignore")
torch.manual_seed(0)
images, weights, out = sys.argv[1:]
model = FrozenBackboneClassifier("squeezenet1_1", weights=weights, image_size=64, pool="avg", hidden=16, lr=0.0,
    audit_freezing=False)
images = ImageFolderDataModule(images, image_size=64, batch_size=5, num_workers=0, max_images=11)
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, enable_progress_bar=False,
    logger=TensorBoardLogger(out, name="", version="2", default_hp_metric=False), enable_model_summary=False,
    callbacks=Plots().callbacks(), enable_checkpointing=False)
trainer.fit(model, images)
"""


@pytest.mark.nightly
def test_two_processes_plot_what_one_does(image_folder, weights_file, tmp_path, quiet_trainer):
    """Eleven images, which do not come out even; a learning rate of 0 leaves both with the same network."""
    script = tmp_path / "ddp.py"
    script.write_text(DDP)
    done = finished(script, image_folder, weights_file, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    torch.manual_seed(0)
    model = model_of(FrozenBackboneClassifier, weights_file, lr=0.0, audit_freezing=False, scheduler=None)
    logger = TensorBoardLogger(tmp_path, name="", version="1", default_hp_metric=False)
    trainer = quiet_trainer(
        max_epochs=1,
        logger=logger,
        callbacks=Plots().callbacks(),
        enable_checkpointing=False,
        log_every_n_steps=50,
    )
    trainer.fit(model, images_of(image_folder, image_size=64, batch_size=10, max_images=11))
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
