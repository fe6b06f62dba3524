"""The flags of the commands are the data modules' arguments, with the same defaults."""

import inspect
from dataclasses import fields

import pytest

import tiny_vit  # noqa: F401  # registers tiny/vit
from lightning_transfer import ImageDataModule, ImageFolderDataModule, ImageTableDataModule
from lightning_transfer.cli.commands.compare import compare
from lightning_transfer.cli.commands.probe import probe
from lightning_transfer.cli.data_options import DataOptions

DEFAULTS = {field.name: field.default for field in fields(DataOptions)}
MODULES = (ImageDataModule, ImageFolderDataModule, ImageTableDataModule)
# What the commands decide themselves, or a table or a folder of several labels a file needs a data module for.
OWN = {"self", "index", "table", "augmentation", "kwargs", "multi_label", "separator"}


@pytest.mark.parametrize("module", MODULES)
def test_defaults_are_the_data_modules(module):
    theirs = inspect.signature(module.__init__).parameters
    # The report is in the command's folder, the size is the network's; a folder of images is itself the root.
    own = {"left_out_report", "image_size", *(["root"] if module is ImageFolderDataModule else [])}
    shared = (DEFAULTS.keys() & theirs.keys()) - own
    assert shared
    assert {name: DEFAULTS[name] for name in shared} == {name: theirs[name].default for name in shared}


def test_no_argument_is_left_out():
    theirs = {name for module in MODULES for name in inspect.signature(module.__init__).parameters}
    assert theirs - OWN == DEFAULTS.keys()


def test_the_report_is_in_the_commands_folder_unless_it_is_named():
    assert DataOptions().report("out") == "out/left_out.csv"
    assert DataOptions(left_out_report="mine.csv").report("out") == "mine.csv"
    assert DataOptions(left_out_report=None).report("out") is None


@pytest.mark.parametrize(
    ("backbone", "weights", "size"),
    [
        ("vgg16", "auto", 150),
        ("mobilenet_v3_small", "auto", 150),
        ("mobilenet_v3_small", "none", 150),
        ("resnet18", "none", 224),
        ("resnet18", "file.pth", 224),
        ("inception_v3", "auto", 299),
        ("tiny/vit", "none", 32),
    ],
)
def test_where_no_size_is_given_it_is_the_networks(backbone, weights, size):
    assert DataOptions().sized_for(backbone, weights).image_size == size
    assert DataOptions(image_size=48).sized_for(backbone, weights).image_size == 48


@pytest.mark.parametrize("function", [compare, probe])
def test_commands_have_no_flag_of_that_name_of_their_own(function):
    assert not DEFAULTS.keys() & inspect.signature(function).parameters.keys()


@pytest.mark.parametrize("name", ["compare", "probe"])
def test_each_is_a_flag(command, name, capsys):
    assert command(name, "--help") == 0
    said = capsys.readouterr().out
    assert [option for option in DEFAULTS if f"--{option} " not in said] == []


def test_a_value_that_does_not_fit_is_a_usage_error(command, capsys):
    assert command("probe", "--data=sketch_pets", "--duplicates=kep") == 2
    assert "duplicates" in capsys.readouterr().err
    assert command("probe", "--data=sketch_pets", "--label_from=name") == 2
    assert "label_from=name: --data sketch_pets has no such option" in capsys.readouterr().err
