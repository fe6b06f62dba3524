"""The plan in docs/scale.md is right in its arithmetic."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lightning_transfer import Backbone
from lightning_transfer.features.manifest import Manifest, SplitManifest
from lightning_transfer.models.stage_sizes import stage_sizes

PAGE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()
MILLIONS = (1, 10, 100)
UNITS = {"GB": 1e9, "TB": 1e12, "s": 1, "min": 60, "h": 3600}


def table(first):
    """The rows of the table whose header begins so, as lists of words."""
    lines = PAGE[PAGE.index(f"| {first}") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quantity(words):
    number, unit = words.split()
    return float(number) * UNITS[unit]


def said(words):
    """A quantity, and by how much it may be off as it is rounded."""
    number = words.split()[0]
    decimals = len(number.partition(".")[2])
    return pytest.approx(quantity(words), rel=0.01, abs=0.6 * 10**-decimals * UNITS[words.split()[1]])


STORES = table("backbone | C")


@cache
def backbone_of(name):
    return Backbone(name, weights=None)


@pytest.mark.parametrize("row", STORES, ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_store_sizes_are_those_of_a_manifest(row):
    name, size = re.fullmatch(r"(\w+), (\d+) × \2", row[0]).groups()
    shape = backbone_of(name).out_shape(int(size))
    if row[1].endswith("if pooled"):
        shape = (shape[0], 1, 1)
    assert tuple(map(int, re.findall(r"\d+", row[1]))) == (shape if "pooled" not in row[1] else shape[:1])
    one = Manifest("", {}, ("a", "b"), shape, row[2], {"train": SplitManifest(("a.jpg",), (0,))})
    bytes_a_image = one.file_bytes("train") - len(one.header("train"))
    assert bytes_a_image == np.zeros(shape, row[2]).nbytes
    for words, millions in zip(row[3:], MILLIONS, strict=True):
        assert bytes_a_image * millions * 1e6 == said(words)


def test_there_is_a_row_for_each_way_of_keeping():
    assert len(STORES) == 8
    assert {row[2] for row in STORES} == {"float16", "float32"}


def test_hours_follow_from_the_rates():
    rows = table("extraction | images/s")
    assert len(rows) == 7
    for _, rate, devices, *times in rows:
        for words, millions in zip(times, MILLIONS, strict=True):
            assert millions * 1e6 / float(rate) / int(devices) == said(words)
    for _, rate, *times in table("before an extraction"):
        for words, millions in zip(times, MILLIONS, strict=True):
            assert millions * 1e6 / float(rate.split()[0].replace(",", "")) == said(words)


@pytest.mark.parametrize(
    ("name", "size", "giga", "rate"), [("vgg16", 150, 13.2, 3400), ("resnet50", 224, 8.2, 5500)]
)
def test_estimated_rates_follow_from_the_operations(name, size, giga, rate):
    operations = sum(stage.operations for stage in stage_sizes(backbone_of(name), size))
    assert f"({giga} GFLOP" in PAGE
    assert operations / 1e9 == pytest.approx(giga, abs=0.05)
    assert 0.15 * 300e12 / operations == pytest.approx(rate, abs=50)


def test_the_manifest_is_as_large_as_it_is_said_to_be():
    paths = tuple(f"train/n01440764/n01440764_{number:08d}.JPEG" for number in range(1000))
    assert {len(path) for path in paths} == {int(re.search(r"paths of (\d+) characters", PAGE)[1])}
    labels = tuple(number % 1000 for number in range(1000))
    small, large = (
        len(Manifest("", {}, (), (1, 1, 1), "float16", {"train": SplitManifest(paths[:n], labels[:n])}).to_json())
        for n in (500, 1000)
    )
    assert (large - small) / 500 == pytest.approx(
        int(re.search(r"(\d+) bytes an image for paths", PAGE)[1]), abs=1
    )
