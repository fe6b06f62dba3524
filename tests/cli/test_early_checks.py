"""A wrong path is told in the words of the data modules, before anything heavy is imported."""

import os
import subprocess
import sys

import pytest

from lightning_transfer import ImageFolderDataModule, ImageTableDataModule
from lightning_transfer.cli.early_checks import check_paths
from lightning_transfer.data.folder import find_images
from lightning_transfer.errors import DataError

# Runs the command line, and says at its end what of the heavy packages was imported.
PROGRAM = """
import atexit, sys
HEAVY = {"torch", "lightning", "torchvision", "numpy"}
atexit.register(lambda: print("imported:", sorted(HEAVY & {*sys.modules})))
from lightning_transfer.cli.main import main
main()
"""


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--data", "nowhere"],
        ["probe", "--data=nowhere"],
        ["predict", "--ckpt_path", "best.ckpt", "--data", "nowhere"],
        ["fit", "--data.root", "nowhere"],
        ["fit", "--data=ImageFolderDataModule", "--data.root=nowhere"],
    ],
    ids=" ".join,
)
def test_it_is_told_before_torch_is_imported(words, tmp_path):
    done = run(tmp_path, *words)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "imported: []\n"
    what = "The folder" if words[0] == "predict" else "The folder of images"
    assert done.stderr.startswith(f"error: {what} nowhere does not exist: wanted ")
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_heavy(tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "compare" in done.stdout
    assert done.stdout.endswith("imported: []\n")


def said_by(function):
    with pytest.raises(DataError) as error:
        function()
    return str(error.value)


def test_the_words_are_those_of_the_data_modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file", "deep/nowhere"):
        own = said_by(ImageFolderDataModule(name).setup)
        assert said_by(lambda name=name: check_paths(["probe", "--data", name])) == own
        assert said_by(lambda name=name: check_paths(["fit", f"--data.root={name}"])) == own
    own = said_by(ImageTableDataModule("no.csv").setup)
    assert said_by(lambda: check_paths(["probe", "--data", "no.csv"])) == own
    assert said_by(lambda: check_paths(["fit", "--data=ImageTableDataModule", "--data.table=no.csv"])) == own
    own = said_by(lambda: find_images("nowhere"))
    assert said_by(lambda: check_paths(["predict", "--data", "nowhere"])) == own


@pytest.mark.parametrize(
    "words",
    [
        ["compare"],
        ["compare", "--data", "sketch_pets"],
        ["probe", "--data", "cats_and_dogs"],
        ["probe", "--data"],
        ["probe", "--data", "there"],
        ["probe", "--data", "nowhere", "--help"],
        ["probe", "--data", "nowhere", "--data", "there"],
        ["fit", "--data=SketchPetsDataModule", "--data.root=nowhere"],
        ["fit", "--data=mine.Images", "--data.root=nowhere"],
        ["fit", "--config=makes.yaml", "--data.root=nowhere"],
        ["fit", "--config=nowhere.yaml"],
        ["fit", "--config=broken.yaml"],
        ["classify", "nowhere.ckpt", "--data", "nowhere"],
    ],
    ids=" ".join,
)
def test_what_is_right_or_not_to_be_told_passes(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "makes.yaml").write_text("data: {class_path: lightning_transfer.SketchPetsDataModule}")
    (tmp_path / "broken.yaml").write_text("data: [")
    check_paths(words)


def test_a_configs_path_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "data: {class_path: lightning_transfer.ImageFolderDataModule, init_args: {root: elsewhere}}"
    )
    with pytest.raises(DataError, match="images elsewhere does not exist"):
        check_paths(["fit", "--config", "mine.yaml"])
    with pytest.raises(DataError, match="images nowhere does not exist"):
        check_paths(["fit", "--config", "mine.yaml", "--data.root=nowhere"])
