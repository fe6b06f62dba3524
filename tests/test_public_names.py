"""The public names are imported when they are asked for, and all are there."""

import subprocess
import sys

import pytest

import lightning_transfer


@pytest.mark.parametrize("name", lightning_transfer.__all__)
def test_each_name_is_there_and_where_the_table_says(name):
    found = getattr(lightning_transfer, name)
    assert found.__module__ == f"lightning_transfer.{lightning_transfer.MODULES[name]}"
    assert name in dir(lightning_transfer)


def test_the_table_has_all_names_and_no_other():
    assert list(lightning_transfer.MODULES) == lightning_transfer.__all__ == sorted(lightning_transfer.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Classifer'"):
        lightning_transfer.Classifer  # noqa: B018
    with pytest.raises(ImportError, match="Classifer"):
        from lightning_transfer import Classifer  # noqa: F401


def test_the_package_alone_imports_neither_torch_nor_lightning():
    code = "import sys, lightning_transfer; print({'torch', 'lightning', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "set()\n"
