"""After a fit in processes that the Trainer started, this process has the module that they trained.

One that was never set up would have no head, no class names and no resizing.
"""

from pathlib import Path

import pytest
import torch

from lightning_transfer import ImageFolderDataModule, StagedUnfreeze, load_classifier
from lightning_transfer.errors import ModuleError
from lightning_transfer.training.checkpoint_io import AtomicCheckpointIO
from lightning_transfer.training.handed_back import KEY, pack
from runs import differing, fine_tuning, finished, images_of

SCRIPT = Path(__file__).parent.parent / "spawn_runs.py"
RUNS = [("ddp_spawn", "images"), ("ddp_fork", "store"), ("ddp_notebook", "images")]
CLASSES = ("cats", "dogs")


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def run(request, image_folder, tmp_path_factory):
    """What the script saw after its fit, and the folder with what it and its processes saved."""
    out = tmp_path_factory.mktemp("spawned")
    done = finished(SCRIPT, *request.param, image_folder, out)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out / "seen.pt", weights_only=True), out


@pytest.mark.slow
def test_the_module_has_what_its_processes_trained(run):
    seen, out = run
    last = torch.load(out / "last.ckpt", weights_only=True)["state_dict"]
    assert KEY not in last  # a checkpoint says it by name
    assert differing({name.removeprefix("network."): value for name, value in last.items()}, seen["weights"]) == []
    assert seen["class_names"] == CLASSES
    assert Path(seen["best"]) == out / "best.ckpt"


@pytest.mark.slow
def test_its_checkpoint_is_enough(run, image_folder):
    seen, out = run
    theirs, ours = (load_classifier(out / name) for name in ("last.ckpt", "saved.ckpt"))
    for name in ("class_names", "image_size", "resize", "max_pixels", "bit_depth"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert (ours.class_names, ours.image_size, ours.resize) == (CLASSES, 32, "crop")
    files = sorted((image_folder / "test").rglob("*.jpg"))
    assert ours.classify(files) == theirs.classify(files)
    assert ours.classify([seen["file"]])[0].probabilities == pytest.approx(seen["probabilities"])


@pytest.mark.slow
def test_its_test_is_that_of_one_process(run, image_folder, quiet_trainer):
    seen, out = run
    images = ImageFolderDataModule(str(image_folder), image_size=32, resize="crop", num_workers=0, max_pixels=4000)
    [alone] = quiet_trainer().test(load_classifier(out / "last.ckpt").module, images, verbose=False)
    assert alone.keys() == seen["tested"].keys()
    for name, value in alone.items():
        assert value == pytest.approx(seen["tested"][name], abs=2e-3), name  # features are float16


def trained(image_folder, quiet_trainer):
    """A module that has seen data, whose sizes were theirs."""
    model = fine_tuning(num_classes=None, image_size=None)
    quiet_trainer().validate(model, images_of(image_folder, resize="crop"), verbose=False)
    return model


def test_what_is_handed_back_makes_an_empty_module_the_same(image_folder, quiet_trainer, tmp_path):
    model, other = (
        trained(image_folder, quiet_trainer),
        fine_tuning(num_classes=None, image_size=None, dropout=0.1),
    )
    torch.save(model.state_dict() | {KEY: pack(model.from_data())}, tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert differing(model.state_dict(), other.state_dict()) == []
    assert (other.class_names, other.resize, other.image_size) == (CLASSES, "crop", 32)
    assert other.hparams["task"] == "single_label"
    assert other.hparams["dropout"] == 0.1  # what a person passed stays
    assert differing(model.decoding, other.decoding) == []


def test_any_other_state_dict_holds_weights_alone(image_folder, quiet_trainer, tmp_path):
    model = trained(image_folder, quiet_trainer)
    assert model.state_dict().keys() == {f"network.{name}" for name in model.network.state_dict()}
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["head"]})])
    trainer.fit(fine_tuning(), images_of(image_folder))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    saved = torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"]
    assert saved.keys() == model.state_dict().keys()


def test_what_lightning_hands_back_is_loaded_and_a_foreign_file_refused(quiet_trainer, tmp_path, image_folder):
    saving, path = AtomicCheckpointIO(), tmp_path / "weights.ckpt"
    state = fine_tuning().state_dict()
    saving.save_checkpoint(state, path)
    assert differing(dict(state), dict(saving.load_checkpoint(path))) == []
    saving.remove_checkpoint(path)
    assert list(tmp_path.iterdir()) == []
    torch.save(state, path)
    trainer = quiet_trainer(max_epochs=1, plugins=[saving], callbacks=[StagedUnfreeze({0: ["head"]})])
    with pytest.raises(ModuleError, match=r"weights\.ckpt is no checkpoint but something else"):
        trainer.fit(fine_tuning(), images_of(image_folder), ckpt_path=path)
