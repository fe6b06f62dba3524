"""What an error advises helps where it is read: each remedy is typed as a flag of the very command that failed."""

import csv
import shutil
from pathlib import Path

import pytest

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer.monitoring.plots import PLOTS

PROBE = [
    "probe",
    "--backbone=squeezenet1_1",
    "--weights=none",
    "--image_size=64",
    "--num_workers=0",
    "--overwrite",
]
FIT = ["fit", "--model=FrozenBackboneClassifier", "--model.backbone=squeezenet1_1", "--model.weights=null"]
FIT += ["--model.pool=avg", "--model.hidden=4", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
FIT += ["--trainer.enable_progress_bar=false", *(f"--plots.{name}=false" for name in PLOTS)]
DATA = ["--data.image_size=64", "--data.num_workers=0"]


@pytest.fixture
def images():
    return draw_folder(Path("images"), counts=(6, 3))


def copies(images):
    shutil.rmtree(images / "train")
    shutil.copytree(images / "validation", images / "train")


def one_empty(images):
    (images / "train" / "cats" / "cats.0.jpg").write_bytes(b"")


def many_empty(images):
    for number in range(4):
        (images / "train" / "cats" / f"cats.{number}.jpg").write_bytes(b"")


def one_large(images):
    # No JPEG, which would be decoded at a reduced scale.
    draw_image(images / "train" / "cats" / "large.png", COLOURS["cats"], 0, (100, 80))


def all_in_one_folder(images):
    for path in images.rglob("*.jpg"):
        path.rename(images / f"{path.stem}{len(list(images.iterdir()))}.jpg")
    for split in ("train", "validation"):
        shutil.rmtree(images / split)


def no_place_for_the_list(images):
    (images / "notes.txt").write_text("")
    for name in ("left_out.csv", "probe/left_out.csv"):
        Path(name).mkdir(parents=True)


CASES = {
    "duplicates": (copies, {}, "pass duplicates=keep", {"duplicates": "keep"}),
    "equal files": (copies, {"duplicates": "error"}, "pass duplicates=keep", {"duplicates": "keep"}),
    "on_bad_image": (one_empty, {}, "on_bad_image=skip", {"on_bad_image": "skip"}),
    "max_bad_images": (many_empty, {"on_bad_image": "skip"}, "a larger max_bad_images", {"max_bad_images": 0.5}),
    "max_pixels": (one_large, {"max_pixels": 2000}, "more than max_pixels=2,000", {"max_pixels": 8000}),
    "label_from": (all_in_one_folder, {}, "label_from=name", {"label_from": "name"}),
    "left_out_report": (
        no_place_for_the_list,
        {},
        "pass another left_out_report",
        {"left_out_report": "mine.csv"},
    ),
}


def flags(prefix, options):
    return [f"--{prefix}{name}={value}" for name, value in options.items()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["probe", "fit"])
def test_the_remedy_helps(command, images, capsys, name, case):
    spoil, given, message, remedy = CASES[case]
    spoil(images)
    if name == "probe":
        words, prefix = [*PROBE, f"--data={images}"], ""
    else:
        words, prefix = [*FIT, "--data=ImageFolderDataModule", f"--data.root={images}", *DATA], "data."
    assert command(*words, *flags(prefix, given)) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert command(*words, *flags(prefix, given | remedy)) == 0


TABLES = Path("tables")
TABLE_CASES = {
    "columns": (["what", "where", "part"], TABLES, "pass label_column", {"label_column": "what"}),
    "split_column": (
        ["label", "path", "set"],
        TABLES,
        'split_column="" uses no column, and has the images split here',
        {"split_column": ""},
    ),
    "root": (["label", "path", "part"], Path("elsewhere"), "Pass root", {"root": "elsewhere"}),
}


@pytest.mark.parametrize("case", TABLE_CASES)
@pytest.mark.parametrize("name", ["probe", "fit"])
def test_the_remedy_for_a_table_helps(command, images, capsys, name, case):
    header, place, message, remedy = TABLE_CASES[case]
    TABLES.mkdir()
    with Path("tables/labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for path in sorted(images.rglob("*.jpg")):
            writer.writerow([path.parent.name, path.relative_to(images), "fold 1"])
    place.mkdir(exist_ok=True)
    images.rename(place / "images")
    if name == "probe":
        words, prefix = [*PROBE, "--data=tables/labels.csv"], ""
    else:
        words, prefix = [*FIT, "--data=ImageTableDataModule", "--data.table=tables/labels.csv", *DATA], "data."
    assert command(*words) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert command(*words, *flags(prefix, remedy)) == 0
