"""image_size=None is the module's or the backbone's, and what does not fit is told before images are read."""

import pytest
import torch
from lightning.pytorch import LightningModule

import tiny_vit  # noqa: F401  # registers tiny/vit
from lightning_transfer import (
    Backbone,
    FeatureClassifier,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
    SketchPetsDataModule,
    extract_features,
    load_classifier,
)
from lightning_transfer.cli.commands.compare import compare
from lightning_transfer.cli.commands.probe import probe
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.comparison.compare import compare as compare_in_python
from lightning_transfer.comparison.probe import probe as probe_in_python
from lightning_transfer.errors import BackboneError, DataError

TOO_UNEVEN = r"image_size=36 is no multiple of 8: pass 32 or 40\."


def images_of(root, **arguments):
    return ImageFolderDataModule(str(root), **({"image_size": None, "num_workers": 0} | arguments))


def tuned(**arguments):
    return FineTuningClassifier("tiny/vit", weights=None, pool="avg", hidden=4, **arguments)


pytestmark = pytest.mark.filterwarnings("ignore:FineTuningClassifier trains its head alone")


def test_it_is_the_backbones_native_size(image_folder, quiet_trainer, tmp_path):
    model, images = tuned(), images_of(image_folder)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, images)
    assert (images.image_size, model.image_size) == (32, 32)
    assert images.dataset("train")[0][0].shape == (3, 32, 32)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=False)
    assert load_classifier(tmp_path / "model.ckpt").image_size == 32


def test_it_is_the_modules_where_that_says_and_a_new_one_in_each_run(image_folder, quiet_trainer):
    images = images_of(image_folder)
    quiet_trainer(max_epochs=1).fit(tuned(image_size=48), images)
    assert images.image_size == 48
    quiet_trainer(max_epochs=1).fit(tuned(), images)
    assert images.image_size == 32
    quiet_trainer().test(tuned(image_size=40, num_classes=2), images, verbose=False)
    assert images.image_size == 40
    # A run that is over says nothing of the next extraction.
    store_of = Backbone("squeezenet1_1", None).split("fire2")[0]
    store = extract_features(quiet_trainer(), store_of, images, root=image_folder.parent / "stores")
    assert store.manifest.recipe["image_size"] == 224


def test_a_size_that_is_given_stays(image_folder, quiet_trainer):
    images = images_of(image_folder, image_size=40)
    quiet_trainer(max_epochs=1).fit(tuned(), images)
    assert images.image_size == 40


def test_before_it_is_known_what_needs_it_says_so(image_folder, tmp_path):
    images = images_of(image_folder)
    images.setup()
    assert images.image_size is None
    assert images.class_names == ("cats", "dogs")
    with pytest.raises(DataError, match="image_size=None of ImageFolderDataModule stands for"):
        images.dataset("train")
    with pytest.raises(DataError, match="image_size=None of SketchPetsDataModule"):
        SketchPetsDataModule(str(tmp_path / "pets"), image_size=None).prepare_data()
    images.image_size = 48
    assert images.dataset("train")[0][0].shape == (3, 48, 48)
    with pytest.raises(DataError, match="image_size=0: wanted a whole number"):
        images.image_size = 0


def test_sketches_are_drawn_at_the_native_size(tmp_path, quiet_trainer):
    samples = {"train": 2, "validation": 1, "test": 1}
    pets = SketchPetsDataModule(str(tmp_path / "pets"), samples, image_size=None, num_workers=0)
    quiet_trainer(max_epochs=1).fit(tuned(), pets)
    assert pets.dataset("train").image(0).size == (32, 32)
    assert '"image_size": 32' in (tmp_path / "pets" / "sketches.json").read_text()


def test_other_peoples_module_without_a_backbone_leaves_it_unknown(image_folder, quiet_trainer):
    class Theirs(LightningModule):
        def training_step(self, batch, batch_idx):
            return None

        def validation_step(self, batch, batch_idx):
            return None

        def configure_optimizers(self):
            return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    with pytest.raises(DataError, match="image_size=None of ImageFolderDataModule"):
        quiet_trainer(max_epochs=1).fit(Theirs(), images_of(image_folder))


@pytest.fixture
def unread(monkeypatch):
    """No image is looked for, nor read."""

    def refuse(*_, **__):
        raise AssertionError("the images were looked at")

    monkeypatch.setattr(ImageFolderDataModule, "load_index", refuse)


@pytest.mark.parametrize("regime", [FeatureClassifier, FrozenBackboneClassifier, FineTuningClassifier])
def test_a_size_that_does_not_fit_is_told_before_images_are_read(
    regime, unread, image_folder, quiet_trainer, tmp_path
):
    model = regime("tiny/vit", weights=None, pool="avg")
    with pytest.raises(BackboneError, match=TOO_UNEVEN):
        quiet_trainer(max_epochs=1).fit(model, images_of(image_folder, image_size=36))
    with pytest.raises(BackboneError, match=TOO_UNEVEN):
        extract_features(quiet_trainer(), model.backbone, images_of(image_folder, image_size=36), root=tmp_path)
    with pytest.raises(BackboneError, match=TOO_UNEVEN):
        regime("tiny/vit", weights=None, pool="avg", num_classes=2, image_size=36)


def test_commands_tell_it_before_images_are_read(unread, image_folder, tmp_path):
    for run in (compare, probe):
        with pytest.raises(BackboneError, match=TOO_UNEVEN):
            run(
                str(image_folder),
                "tiny/vit",
                "none",
                out=str(tmp_path / "out"),
                options=DataOptions(image_size=36),
            )
    for run in (compare_in_python, probe_in_python):
        with pytest.raises(BackboneError, match=TOO_UNEVEN):
            run(images_of(image_folder, image_size=36), "tiny/vit", weights="none", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--model.image_size=36"], ["--data.image_size=36"]])
@pytest.mark.parametrize("subcommand", ["fit", "extract"])
def test_the_command_line_tells_it_in_one_paragraph(subcommand, flags, unread, image_folder, command, capsys):
    data = ["--data=ImageFolderDataModule", f"--data.root={image_folder}", "--data.image_size=null"]
    model = ["--model=FeatureClassifier", "--model.backbone=tiny/vit", "--model.weights=null", "--model.pool=avg"]
    assert command(subcommand, *model, *data, *flags, "--trainer.accelerator=cpu") == 1
    error = " ".join(capsys.readouterr().err.rpartition("error: ")[2].split())
    assert "tiny/vit divides images evenly, and image_size=36 is no multiple of 8: pass 32 or 40." in error
    assert "Traceback" not in error


@pytest.mark.parametrize(("flags", "size"), [([], 32), (["--model.image_size=40"], 40)])
def test_the_command_line_takes_null_for_it(flags, size, image_folder, command):
    """Features are extracted and fitted at one size, and a test with the checkpoint has it, too."""
    data = ["--data=ImageFolderDataModule", f"--data.root={image_folder}", "--data.image_size=null"]
    data += ["--data.num_workers=0"]
    model = ["--model=FeatureClassifier", "--model.backbone=tiny/vit", "--model.weights=null", "--model.pool=avg"]
    quick = ["--trainer.accelerator=cpu", "--run_name=run", "--trainer.enable_progress_bar=false"]
    off = [f"--plots.{name}=false" for name in ("graph", "projector", "feature_maps")]
    assert command("fit", *model, *data, *flags, *quick, *off, "--trainer.max_epochs=1") == 0
    saved = torch.load("checkpoints/run/last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["image_size"] == size
    assert command("test", *model, *data, *quick, "--ckpt_path=checkpoints/run/last.ckpt") == 0


def test_a_probe_and_a_comparison_of_tokens_have_the_native_size(image_folder, tmp_path):
    stages = probe(str(image_folder), "tiny/vit", "none", out=str(tmp_path / "probe"))
    assert [stage.shape for stage in stages] == [(17, 16)] * 4
    report = (tmp_path / "probe" / "probe.json").read_text()
    assert '"image_size": 32' in report
    again = probe_in_python(images_of(image_folder), "tiny/vit", weights="none", out=tmp_path / "again")
    assert [stage.shape for stage in again] == [(17, 16)] * 4
    folder = probe_in_python(image_folder, "tiny/vit", weights="none", out=tmp_path / "folder")
    assert [stage.shape for stage in folder] == [(17, 16)] * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary")
def test_a_comparison_on_tokens(image_folder, tmp_path):
    outcomes = compare(str(image_folder), "tiny/vit", "none", epochs=1, out=str(tmp_path / "out"))
    assert len(outcomes) == 3
    assert '"image_size": 32' in (tmp_path / "out" / "arguments.json").read_text()
