"""A checkpoint is whole or not there, known again when it was changed, and never runs code."""

import errno
import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from killing import run_and_kill
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_transfer import (
    AtomicCheckpointIO,
    FrozenBackboneClassifier,
    load_classifier,
)
from lightning_transfer.errors import BackboneError, ModuleError, OutputError
from lightning_transfer.models.weights import read_file
from lightning_transfer.training.checkpoint_io import read_checkpoint
from runs import Stranger, noise

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


def state(number, size=1000):
    """What a Lightning checkpoint holds at least; which one it is shows in its weights."""
    return {"state_dict": {"weight": torch.full((size,), float(number))}}


def number_in(path):
    weight = read_checkpoint(str(path))["state_dict"]["weight"]
    assert (weight == weight[0]).all()
    return int(weight[0])


def save(path, number, size=1000):
    AtomicCheckpointIO().save_checkpoint(state(number, size), path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Every call by which a save changes something on the disk, in order.
STEPS = [("fsync", os, 5), ("replace", Path, 2), ("unlink", Path, 3), ("open", Path, 2)]
KILLS = [
    (owner, name, call, after) for name, owner, calls in STEPS for call in range(1, calls + 1) for after in (0, 1)
]


def test_a_kill_at_any_step_of_a_save_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # TMPDIR on another file system, where Linux has one
    path = tmp_path / "last.ckpt"
    found = []
    for owner, name, call, after in KILLS:
        save(path, 1)
        assert run_and_kill(partial(save, path, 2), owner, name, call, bool(after)) == -signal.SIGKILL, (
            name,
            call,
        )
        found.append(number_in(path))
    assert set(found) == {1, 2}, "some before and some after the new one took its place"
    save(path, 3)
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.sha256"], "nothing is left over"
    assert number_in(path) == 3


def test_a_kill_during_the_first_save_leaves_nothing_that_looks_like_one(tmp_path):
    path = tmp_path / "last.ckpt"
    for call in (1, 2):
        assert run_and_kill(partial(save, path, 2), os, "fsync", call) == -signal.SIGKILL
        assert not path.exists()
        assert all(name.startswith(".") for name in names(tmp_path))


@contextmanager
def largest_file(size):
    """As on a disk with so much room: what would make a file larger fails, in the midst of writing it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.ckpt"
    save(path, 1)
    before = names(tmp_path)
    with largest_file(100_000), pytest.raises(OutputError, match=r"last\.ckpt cannot be saved .*File too large"):
        save(path, 2, size=100_000)
    assert number_in(path) == 1
    assert names(tmp_path) == before


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_a_disk_that_is_full_when_it_is_brought_there(tmp_path, monkeypatch, call):
    path = tmp_path / "last.ckpt"
    save(path, 1)
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"last\.ckpt cannot be saved \(No space left"):
        save(path, 2)
    assert number_in(path) == (1 if call <= 2 else 2)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


MODEL = {
    "backbone": "squeezenet1_1",
    "weights": None,
    "num_classes": 2,
    "image_size": 32,
    "pool": "avg",
    "hidden": 4,
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FrozenBackboneClassifier(**MODEL)


def loader(samples=8, batch_size=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(samples, 3, 32, 32, generator=generator)
    dataset = torch.utils.data.TensorDataset(images, torch.arange(samples) % 2)
    return torch.utils.data.DataLoader(dataset, batch_size)


def trainer_of(*callbacks, **arguments):
    defaults = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_model_summary": False}
    defaults |= {"enable_progress_bar": False, "num_sanity_val_steps": 0, "enable_checkpointing": bool(callbacks)}
    defaults |= {"plugins": [AtomicCheckpointIO()]}
    return Trainer(**(defaults | arguments), callbacks=list(callbacks))


def test_a_folder_that_cannot_be_written_to_stops_the_fit_before_it_begins(model):
    """In a process without root's rights; Lightning alone trains to the end, and leaves no file."""
    steps = []

    def fit():
        if os.geteuid() == 0:
            os.setuid(65534)
        model.training_step = lambda batch, batch_idx: steps.append(batch_idx)
        with pytest.raises(OutputError, match=r"to be saved in .*runs, but .*closed cannot be written to"):
            trainer_of(ModelCheckpoint(closed / "runs")).fit(model, loader())
        assert not steps

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder) / "closed"
        closed.mkdir(0o555)
        assert run_and_kill(fit) == 0


def test_a_folder_that_cannot_be_written_to_any_more_stops_the_fit(model, tmp_path):
    saving = ModelCheckpoint(tmp_path / "runs", "{epoch}", save_top_k=-1)
    trainer = trainer_of(saving, max_epochs=5)

    def block(outputs, batch, batch_idx):
        (tmp_path / "runs").write_text("no folder any more")

    model.on_train_batch_end = block
    with pytest.raises(OutputError, match=r"epoch=0\.ckpt cannot be saved"):
        trainer.fit(model, loader())
    assert trainer.current_epoch == 0


def flip(path, place=0.5):
    """One bit of a file is another."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


@pytest.fixture
def saved_model(model, tmp_path):
    """What a fit leaves: the file that it saved last."""
    trainer_of(ModelCheckpoint(tmp_path, "last")).fit(model, loader())
    return tmp_path / "last.ckpt"


def test_the_sidecar_is_what_sha256sum_writes(saved_model):
    digest = hashlib.sha256(saved_model.read_bytes()).hexdigest()
    assert saved_model.with_name("last.ckpt.sha256").read_text() == f"{digest}  last.ckpt\n"


@pytest.mark.parametrize("damage", [flip, truncate])
def test_a_checkpoint_that_was_changed_is_named_wherever_it_is_read(saved_model, damage):
    damage(saved_model)
    path = str(saved_model)
    fresh = FrozenBackboneClassifier(**MODEL)
    for read in (
        read_checkpoint,
        load_classifier,
        FrozenBackboneClassifier.load_from_checkpoint,
        lambda path: FrozenBackboneClassifier(**MODEL, init_from=path),
        lambda path: trainer_of(max_epochs=2).fit(fresh, loader(), ckpt_path=path),
        lambda path: trainer_of().test(fresh, loader(), ckpt_path=path),
    ):
        with pytest.raises(ModuleError, match=r"last\.ckpt is truncated or was changed after it was saved"):
            read(path)


def test_without_its_sidecar_a_truncated_one_is_named_still(saved_model, tmp_path):
    moved = saved_model.rename(tmp_path / "moved.ckpt")
    read_checkpoint(str(moved))
    truncate(moved)
    with pytest.raises(ModuleError, match=r"moved\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(str(moved))


@pytest.mark.parametrize("save_last", [True, "link"])
def test_links_and_files_that_are_removed_take_the_sidecar_along(model, tmp_path, save_last):
    saving = ModelCheckpoint(tmp_path, "{epoch}", monitor="validation/loss", save_top_k=1, save_last=save_last)
    trainer_of(saving, max_epochs=3).fit(model, loader(), loader())
    files = {path.name for path in tmp_path.glob("*.ckpt") if not path.is_symlink()}
    assert {f"{name}.sha256" for name in files} == {path.name for path in tmp_path.glob("*.sha256")}
    last = tmp_path / "last.ckpt"
    assert last.is_symlink() == (save_last == "link")
    assert read_checkpoint(str(last))["epoch"] == 2
    flip(last)
    with pytest.raises(ModuleError, match="truncated or was changed"):
        read_checkpoint(str(last))


def test_modules_of_other_people_have_it_by_a_plugin(tmp_path):
    trainer = trainer_of(ModelCheckpoint(tmp_path, "last"), plugins=[AtomicCheckpointIO()])
    trainer.fit(Stranger(), noise())
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.sha256"]
    flip(tmp_path / "last.ckpt")
    with pytest.raises(ModuleError, match="truncated or was changed"):
        trainer_of(max_epochs=2, plugins=[AtomicCheckpointIO()]).fit(
            Stranger(), noise(), ckpt_path=tmp_path / "last.ckpt"
        )


def test_somebody_elses_way_of_saving_stays(model, tmp_path):
    class Own(AtomicCheckpointIO):
        pass

    own = Own()
    trainer = trainer_of(ModelCheckpoint(tmp_path, "last"), plugins=[own])
    trainer.fit(model, loader())
    assert trainer.strategy.checkpoint_io is own


def test_last_is_the_newest_epoch_where_an_earlier_one_is_the_best(model, tmp_path):
    best = ModelCheckpoint(tmp_path, "best", monitor="validation/loss", mode="max", enable_version_counter=False)
    last = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    trainer_of(best, last, max_epochs=3).fit(model, loader(), loader())
    assert read_checkpoint(str(tmp_path / "best.ckpt"))["epoch"] == 0, "the loss falls, and the highest is wanted"
    assert read_checkpoint(str(tmp_path / "last.ckpt"))["epoch"] == 2


class Harm:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def crafted(saved_model, mark, how):
    """A checkpoint as good as any, but with code in it."""
    checkpoint = torch.load(saved_model, weights_only=True)
    checkpoint["hyper_parameters"]["lr"] = Harm(mark)
    path = saved_model.with_name("crafted.ckpt")
    torch.save(checkpoint, path, _use_new_zipfile_serialization=how == "zip")
    return path


GUARD_OFF = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
UNWARNED = pytest.mark.filterwarnings("ignore::UserWarning")  # which would stop what is to be stopped otherwise
CRAFTED = pytest.mark.parametrize("how", ["zip", "before zip"])
READERS = {
    "read_checkpoint": read_checkpoint,
    "load_classifier": load_classifier,
    "load_from_checkpoint": FrozenBackboneClassifier.load_from_checkpoint,
    "init_from": lambda path: FrozenBackboneClassifier(**MODEL, init_from=path),
    "head_from": lambda path: FrozenBackboneClassifier(**MODEL, head_from=path),
    "fit": lambda path: trainer_of(max_epochs=2).fit(FrozenBackboneClassifier(**MODEL), loader(), ckpt_path=path),
    "test": lambda path: trainer_of().test(FrozenBackboneClassifier(**MODEL), loader(), ckpt_path=path),
    "predict": lambda path: trainer_of().predict(FrozenBackboneClassifier(**MODEL), loader(), ckpt_path=path),
    "plugin": lambda path: trainer_of(plugins=[AtomicCheckpointIO()]).fit(Stranger(), noise(), ckpt_path=path),
    "weights": lambda path: read_file(Path(path)),
}


@CRAFTED
def test_the_crafted_file_would_run_code(saved_model, tmp_path, how):
    """Otherwise what follows would prove nothing."""
    torch.load(crafted(saved_model, tmp_path / "mark", how), weights_only=False)
    assert (tmp_path / "mark").exists()


@UNWARNED
@CRAFTED
@pytest.mark.parametrize("guard_off", [False, True], ids=["", "torch's guard off"])
def test_no_way_of_reading_runs_code(saved_model, tmp_path, monkeypatch, how, guard_off):
    if guard_off:
        monkeypatch.setenv(GUARD_OFF, "1")
    path = str(crafted(saved_model, tmp_path / "mark", how))
    for name, read in READERS.items():
        with pytest.raises(Exception, match=r"(?i)weights.only|cannot be read"):
            read(path)
        assert not (tmp_path / "mark").exists(), name


def test_a_web_address_is_not_even_asked(model, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", asked)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", asked)
    for scheme in ("http", "https"):
        path = f"{scheme}://127.0.0.1:9/model.ckpt"
        for name, read in READERS.items():
            with pytest.raises((ModuleError, BackboneError)) as caught:
                read(path)
            assert "file" in str(caught.value), name


def naming_a_class(saved_model, mark, where):
    """No pickled code, but words that jsonargparse would make a class of: one that makes a file."""
    checkpoint = torch.load(saved_model, weights_only=True)
    call = {"class_path": "logging.FileHandler", "init_args": {"filename": str(mark)}}
    checkpoint["hyper_parameters"] |= {
        "own": {"scheduler_options": call},
        "nested": {"scheduler_options": {"any": [call]}},
        "text": {"scheduler_options": json.dumps({"any": call})},
        "network": {"backbone": call, "last_stage": call, "class_weights": call},
        "_instantiator": {
            "scheduler_options": {"any": call},
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
        },
        "imported": {"_class_path": "harmful.Model", "_instantiator": "harmful.make"},
    }[where]
    if where == "imported":
        del checkpoint["class_names"]  # so that it is of a module of somebody else's
    path = saved_model.with_name("crafted.ckpt")
    torch.save(checkpoint, path)
    return path


@UNWARNED
@pytest.mark.parametrize("where", ["own", "nested", "text", "network", "_instantiator", "imported"])
def test_what_a_checkpoint_names_is_neither_imported_nor_called(
    saved_model, tmp_path, monkeypatch, command, weights_file, image_folder, where
):
    mark = tmp_path / "mark"
    (tmp_path / "harmful.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nmake = Model = dict")
    monkeypatch.syspath_prepend(tmp_path)
    path = naming_a_class(saved_model, mark, where)
    with suppress(Exception):
        FrozenBackboneClassifier.load_from_checkpoint(path)
    with suppress(Exception):
        load_classifier(path)
    flags = ["--model=FrozenBackboneClassifier", "--model.backbone=squeezenet1_1", "--model.weights=null"]
    flags += ["--model.pool=avg", "--model.hidden=4", "--data=ImageFolderDataModule", "--data.image_size=32"]
    flags += [f"--data.root={image_folder}", "--data.num_workers=0", "--trainer.logger=false"]
    for verb in ("test", "fit"):
        command(verb, *flags, "--trainer.fast_dev_run=true", f"--ckpt_path={path}")
    assert not mark.exists()
    assert "harmful" not in sys.modules
