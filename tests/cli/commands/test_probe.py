"""The probe's numbers are those of scikit-learn on the same images, and its files say what it prints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conftest import COLOURS, draw_image
from lightning_transfer import Backbone, ImageFolderDataModule
from lightning_transfer.cli.commands.probe import probe
from lightning_transfer.cli.commands.summary import summary
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.errors import BackboneError, DataError

STAGES = ["stem", "block1", "block2", "block3", "block4", "block5", "last_conv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes whose colours overlap, so that not all stages have all of them right."""
    root = tmp_path_factory.mktemp("probed")
    for split, count in (("train", 30), ("validation", 30)):
        for number in range(count):
            shade = int(np.random.default_rng([number, count, split == "train"]).integers(-60, 60))
            for name in ("cats", "dogs"):
                colour = tuple(100 + (c - 100) // 4 + shade for c in COLOURS[name])
                draw_image(root / split / name / f"{number}.jpg", colour, number)
    return root


@pytest.fixture(scope="module")
def probed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("probe") / "out"
    return out, probe(str(folder), options=DataOptions(image_size=64), out=str(out))


def test_the_accuracies_are_scikit_learns(probed, folder):
    backbone = Backbone("mobilenet_v3_small", "bundled").eval()
    images = ImageFolderDataModule(str(folder), image_size=64)
    images.setup()
    features, labels = {}, {}
    for split in ("train", "validation"):
        image_folder = torch.stack([image for image, _ in images.dataset(split)])
        labels[split] = np.array(images.dataset(split).samples.labels)
        with torch.no_grad():
            prefixes = [backbone.split(name)[0] for name in backbone.stage_names[1:]]
            features[split] = [prefix(image_folder).mean(dim=(2, 3)).numpy() for prefix in (*prefixes, backbone)]
    _, stages = probed
    assert [stage.stage for stage in stages] == STAGES
    for stage, train, validation in zip(stages, features["train"], features["validation"], strict=True):
        oracle = make_pipeline(StandardScaler(), LogisticRegression(C=2 / (0.01 * len(train)), max_iter=5000))
        oracle.fit(train, labels["train"])
        # In bf16 an image or two at the border fall on the other side.
        assert stage.accuracy == pytest.approx(oracle.score(validation, labels["validation"]), abs=0.05), (
            stage.stage
        )
    assert len({stage.accuracy for stage in stages}) > 1, "too easy to tell the stages apart"


def test_sizes_are_the_summarys(probed):
    _, stages = probed
    lines = summary("mobilenet_v3_small", image_size=64, depth="stage")
    assert [stage.shape for stage in stages] == [line.shape for line in lines]
    assert [stage.parameters for stage in stages] == np.cumsum([line.parameters for line in lines]).tolist()
    assert stages[-1].parameters == sum(p.numel() for p in Backbone("mobilenet_v3_small", None).parameters())


def test_the_files_say_what_was_found(probed, folder):
    out, stages = probed
    assert {path.name for path in out.iterdir()} == {"probe.json", "probe.png"}
    report = json.loads((out / "probe.json").read_text())
    assert report["arguments"] == {
        "data": str(folder),
        "backbone": "mobilenet_v3_small",
        "weights": "bundled",
        "image_size": 64,
        "seed": 0,
    }
    assert [line["validation_accuracy"] for line in report["stages"]] == [stage.accuracy for stage in stages]
    assert report["last_stage"] in STAGES
    assert report["last_stage"] in report["advice"] or report["advice"].startswith("Keep all")
    with Image.open(out / "probe.png") as figure:
        assert figure.width > 400


def test_the_command_line_prints_table_and_advice(command, folder, capsys):
    flags = ["--data", folder, "--backbone=squeezenet1_1", "--weights=none", "--image_size=64"]
    assert command("probe", *flags, "--out=found") == 0
    said = " ".join(capsys.readouterr().out.split())
    report = json.loads(Path("found/probe.json").read_text())
    assert report["advice"] in said
    for line in report["stages"]:
        row = [line["stage"], "×".join(map(str, line["shape"])), f"{line['parameters']:,}"]
        assert " ".join(row) in said
        assert f"{line['validation_accuracy']:.1%}" in said


def test_random_weights_are_those_of_the_seed(folder, tmp_path):
    flags = {
        "backbone": "squeezenet1_1",
        "weights": "none",
        "overwrite": True,
        "out": str(tmp_path),
    }
    options = [DataOptions(image_size=64, seed=seed) for seed in (0, 0, 1)]
    runs = [[stage.right for stage in probe(str(folder), **flags, options=each)] for each in options]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_an_earlier_run_is_not_overwritten_unasked(probed, folder, monkeypatch):
    out, stages = probed
    before = (out / "probe.json").read_bytes()

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "predict", refuse)
        patch.setattr(Backbone, "__init__", refuse)
        with pytest.raises(DataError, match=r"holds an earlier probe: pass another out, or --overwrite"):
            probe(str(folder), out=str(out))
    assert (out / "probe.json").read_bytes() == before
    again = probe(str(folder), options=DataOptions(image_size=64), out=str(out), overwrite=True)
    assert [stage.accuracy for stage in again] == [stage.accuracy for stage in stages]


def test_a_file_in_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out is a file: pass a folder"):
        probe(str(folder), out=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backbone": "mobilnet_v3_small"}, BackboneError, "no network 'mobilnet_v3_small' .* mobilenet_v3_small"),
        (
            {"backbone": "resnet18", "weights": "bundled"},
            BackboneError,
            "No weights of resnet18 come with this library",
        ),
        (
            {"backbone": "squeezenet1_1", "weights": "none", "options": DataOptions(image_size=8)},
            BackboneError,
            "8 × 8 are too small for",
        ),
        ({"data": "nowhere"}, DataError, "nowhere does not exist"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(arguments, error, message, folder, tmp_path):
    with pytest.raises(error, match=message):
        probe(**({"data": str(folder), "out": str(tmp_path / "out")} | arguments))
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_told_and_listed(command, folder, tmp_path, capfd):
    shutil.copytree(folder, tmp_path / "images")
    (tmp_path / "images" / "train" / "cats" / "0.jpg").write_bytes(b"")
    (tmp_path / "images" / "notes.txt").write_text("")
    flags = ["--data=images", "--backbone=squeezenet1_1", "--weights=none", "--image_size=64"]
    assert command("probe", *flags, "--on_bad_image=skip") == 0
    said = "".join(capfd.readouterr())
    assert "1 left out: not an image: .txt (notes.txt)" in said
    assert "1 left out: cannot be read (an empty file) (train/cats/0.jpg)" in said
    assert "All that is left out: probe/left_out.csv" in said
    listed = Path("probe/left_out.csv").read_text().splitlines()
    assert listed == [
        "path,reason",
        "images/notes.txt,not an image: .txt",
        "images/train/cats/0.jpg,cannot be read (an empty file)",
    ]
    assert not Path("left_out.csv").exists()
    draw_image(Path("images/train/cats/0.jpg"), COLOURS["cats"], 0)
    Path("images/notes.txt").unlink()
    assert command("probe", *flags, "--overwrite") == 0
    assert Path("probe/left_out.csv").read_text() == "path,reason\n", "the list of an earlier run is still there"


@pytest.mark.real
@pytest.mark.nightly
def test_on_photographs_accuracy_grows_with_depth(real, tmp_path):
    weights = real / "weights" / "squeezenet1_1-imagenet-features.pth"
    stages = probe(
        str(real / "data" / "cats_and_dogs_small"), "squeezenet1_1", str(weights), out=str(tmp_path / "out")
    )
    accuracies = {stage.stage: stage.accuracy for stage in stages}
    assert list(accuracies) == ["stem", *(f"fire{number}" for number in range(2, 10))]
    assert accuracies["stem"] < 0.75
    assert accuracies["fire4"] > accuracies["stem"] + 0.1
    assert accuracies["fire9"] > accuracies["fire4"] + 0.06
    assert accuracies["fire9"] > 0.91
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["last_stage"] in (
        "fire6",
        "fire7",
        "fire8",
        "fire9",
    )
