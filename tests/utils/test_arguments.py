"""Checks of arguments: what is understood becomes plain Python, and what is not is named."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from lightning_transfer.errors import DataError, ModuleError
from lightning_transfer.utils.arguments import number, one_of, path_text, positive, whole_number


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7)])
def test_whole_numbers_become_plain(value):
    assert positive("batch_size", value) == value
    assert type(positive("batch_size", value)) is int


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, "64", (64, 64), None, True, float("nan"), np.float32(2)])
def test_what_is_no_positive_whole_number_is_named(value):
    with pytest.raises(DataError, match=r"^batch_size=.*: wanted a whole number, 1 or more\.$") as refused:
        positive("batch_size", value)
    assert repr(value) in str(refused.value)


def test_whole_numbers_have_their_own_least():
    assert whole_number("seed", 0) == 0
    with pytest.raises(ModuleError, match=r"^seed=-1: wanted a whole number, 0 or more\.$"):
        whole_number("seed", -1, error=ModuleError)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_numbers_become_plain(value):
    assert number("share", value, least=0, most=1) == value
    assert type(number("share", value, least=0, most=1)) is float


@pytest.mark.parametrize("value", ["0.1", None, True, float("nan"), float("inf"), (0.1,), 1 + 0j, np.array([0.1])])
def test_what_is_no_number_is_named(value):
    with pytest.raises(DataError, match=r"^share=.*: wanted a number\.$"):
        number("share", value)


def test_limits_of_numbers():
    assert number("dropout", 0, least=0, below=1) == 0
    with pytest.raises(DataError, match=r"^dropout=1: wanted a number from 0, below 1\.$"):
        number("dropout", 1, least=0, below=1)
    with pytest.raises(DataError, match=r"^share=2: wanted a number above 0, up to 1\.$"):
        number("share", 2, above=0, most=1)
    with pytest.raises(DataError, match=r"^lr=0: wanted a number above 0\.$"):
        number("lr", 0, above=0)
    with pytest.raises(DataError, match=r"^share=-0\.1: wanted a number from 0 to 1\.$"):
        number("share", -0.1, least=0, most=1)
    with pytest.raises(DataError, match="wanted a number from 0 to 1"):
        number("share", 1.1, least=0, most=1)


def test_one_of_some():
    assert one_of("bit_depth", 12, ("auto", 10, 12)) == 12
    for value in ("crops", ["crop"], None, 12.0, True, np.zeros(3)):
        with pytest.raises(DataError, match=r"^bit_depth=.*: wanted one of auto, 1, 12\.$"):
            one_of("bit_depth", value, ("auto", 1, 12))


@pytest.mark.parametrize("value", ["a/b", Path("a/b"), PurePosixPath("a/b")])
def test_paths_become_text(value):
    assert path_text("root", value) == "a/b"


@pytest.mark.parametrize("value", [None, 3, b"a/b", ["a/b"]])
def test_what_is_no_path_is_named(value):
    with pytest.raises(DataError, match=r"^root=.*: wanted a path, a string or a pathlib\.Path\.$"):
        path_text("root", value)


def test_long_values_are_shown_short():
    with pytest.raises(DataError) as refused:
        positive("image_size", np.zeros((100, 100)))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
