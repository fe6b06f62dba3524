"""Outputs are whole or absent, and never written over by mistake."""

import os

import pytest

from lightning_transfer.errors import OutputError
from lightning_transfer.utils.files import checked_output, whole_file


def test_a_path_that_may_be_written_is_given_back(tmp_path):
    target = tmp_path / "new.csv"
    assert checked_output(target, overwrite=False) == target
    assert not target.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_there_is_replaced_only_when_asked(tmp_path, overwrite):
    target = tmp_path / "old.csv"
    target.write_text("old")
    if overwrite:
        assert checked_output(target, overwrite) == target
        return
    with pytest.raises(OutputError, match=r"old\.csv is there already: pass --overwrite"):
        checked_output(target, overwrite)


def test_folders_are_named(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        checked_output(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match=r"nowhere does not exist: make it first"):
        checked_output(tmp_path / "nowhere" / "x.csv", overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written to"):
        checked_output(tmp_path / "x.csv", overwrite=False)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    target = tmp_path / "x.csv"
    target.write_text("old")

    def fail():
        with whole_file(target) as beside:
            beside.write_text("half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # it is our own
        fail()
    assert (target.read_text(), os.listdir(tmp_path)) == ("old", ["x.csv"])
    with whole_file(target) as beside:
        beside.write_text("new")
    assert (target.read_text(), os.listdir(tmp_path)) == ("new", ["x.csv"])
