"""Checkpoints of somebody's own class, and of other classes of images, on the command line."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from conftest import draw_folder
from lightning_transfer import load_classifier
from lightning_transfer.monitoring.plots import PLOTS

MINE = """
from pathlib import Path

from torch import nn

from lightning_transfer import FrozenBackboneClassifier

Path(__file__).with_suffix(".imported").touch()


class Mixing(FrozenBackboneClassifier):
    def __init__(self, backbone: str = "squeezenet1_1", *, outputs: int = 5, kind: str = "linear", **arguments):
        super().__init__(backbone, **arguments)
        self.mix = nn.Sequential(nn.Linear(2, outputs), nn.Linear(outputs, 2))
        assert kind == "affine"

    @property
    def stages(self):
        return {**super().stages, "mix": self.mix}

    def forward(self, inputs):
        return self.mix(super().forward(inputs))
"""
RUN = ["--data=ImageFolderDataModule", "--data.image_size=33", "--data.num_workers=0", "--trainer.max_epochs=1"]
RUN += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.logger=false"]
RUN += ["--trainer.enable_progress_bar=false", *(f"--plots.{name}=false" for name in PLOTS)]
NETWORK = ["--model.backbone=squeezenet1_1", "--model.pool=avg", "--model.hidden=4"]
OWN = [*NETWORK, "--model.weights=null", "--model.outputs=3", "--model.kind=affine"]

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


@pytest.fixture
def forget(tmp_path, monkeypatch):
    """Somebody's module `mine`; forgets it as another process would, and gives the file that an import leaves."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        sys.modules.pop("mine", None)
        (tmp_path / "mine.imported").unlink(missing_ok=True)
        return tmp_path / "mine.imported"

    forget()  # other tests have a module of that name, too
    yield forget
    forget()


@pytest.fixture
def own(command, forget, image_folder):
    """A checkpoint of `mine.Mixing`, from `fit`."""
    assert (
        command("fit", "--allow-import=mine", "--model=mine.Mixing", *OWN, *RUN, f"--data.root={image_folder}")
        == 0
    )
    forget()
    return "checkpoints/mixing/last.ckpt"


def test_each_command_that_reads_a_checkpoint_asks_first(command, own, forget, image_folder, capsys):
    image = image_folder / "test" / "cats" / "cats.0.jpg"
    predict = ["--accelerator=cpu", "--num_workers=0", "--precision=32-true"]
    commands = {
        "classify": ["classify", own, image],
        "predict": ["predict", "--ckpt_path", own, "--data", image.parent, *predict],
        "explain": ["explain", own, image],
        "export": ["export", own, "--format=torch_export"],
    }
    for words in commands.values():
        imported = forget()
        assert command(*words) == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "was made by mine.Mixing, which is not imported unasked" in said
        assert "pass --allow-import mine" in said
        assert not imported.exists()
        assert command(*words, "--allow-import=other") == 1
    capsys.readouterr()
    assert command(*commands["classify"], "--allow-import", "mine") == 0
    assert command("--allow-import=mine", *commands["predict"]) == 0
    assert command(*commands["explain"], "--allow-import=mine") == 0
    assert "nothing speaks" not in capsys.readouterr().out
    assert command(*commands["export"], "--allow-import=mine") == 0

    classifier = load_classifier(own, allow_import="mine")
    (expected,) = classifier.classify([image])
    with Path("predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["probability_cats"]) == pytest.approx(expected.probabilities["cats"], abs=2e-6)
    exported = torch.export.load("checkpoints/mixing/last.pt2").module()
    found = exported(classifier.images([image]).read(image).expand(2, -1, -1, -1))
    assert found[0].tolist() == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
    plain = classifier.network.probabilities(classifier.images([image]).read(image)[None])
    assert plain[0, 0].item() != pytest.approx(expected.probabilities["cats"], abs=1e-3), "its own forward counts"


def test_help_names_the_flag(command, capsys):
    for name in ("classify", "predict", "explain", "export"):
        assert command(name, "--help") == 0
        assert "--allow-import PACKAGE" in capsys.readouterr().out


def test_testing_takes_the_class_from_the_command_line(command, own, image_folder, capsys):
    flags = [*RUN, f"--data.root={image_folder}", f"--ckpt_path={own}"]
    assert command("test", "--allow-import=mine", "--model=mine.Mixing", *OWN, *flags) == 0
    with pytest.warns(
        UserWarning, match=r"made by mine\.Mixing, and is read as FrozenBackboneClassifier.*--model=mine"
    ):
        assert command("test", "--model=FrozenBackboneClassifier", *NETWORK, *flags) == 1
    assert "mix.0.weight" in capsys.readouterr().err


def test_new_classes_on_an_old_network(command, image_folder, tmp_path, capsys, monkeypatch):
    """Fitted on two classes, then on three, then tested, resumed and classified as such."""
    lines = []
    monkeypatch.setattr("lightning_transfer.training.head_start.rank_zero_info", lines.append)
    fit = ["fit", "--model=FrozenBackboneClassifier", *NETWORK, *RUN]
    assert command(*fit, "--model.weights=null", f"--data.root={image_folder}", "--run_name=two") == 0
    three = f"--data.root={draw_folder(tmp_path / 'three', ('cats', 'dogs', 'horses'), (6, 3, 3))}"
    start = "--model.init_from=checkpoints/two/last.ckpt"
    assert command(*fit, three, start, "--run_name=three") == 0
    assert lines == ["head: rows of cats, dogs from checkpoints/two/last.ckpt; horses is new"]
    last = "checkpoints/three/last.ckpt"
    assert command("test", *fit[1:], three, f"--ckpt_path={last}", "--run_name=three") == 0
    assert command(*fit, three, "--trainer.max_epochs=2", f"--ckpt_path={last}", "--run_name=three") == 0
    capsys.readouterr()
    assert command("classify", last, tmp_path / "three" / "test" / "horses" / "horses.0.jpg") == 0
    assert load_classifier(last).class_names == ("cats", "dogs", "horses")
    assert command(*fit, three, "--model.head_from=checkpoints/two/last.ckpt", "--model.weights=null") == 1
    assert "was trained with num_classes=2, this run has num_classes=3" in capsys.readouterr().err
    assert len(lines) == 1
