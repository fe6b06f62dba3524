"""Tell a path that does not exist before torch and Lightning are imported, which takes ten seconds.

These checks only come first: the data modules make the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_transfer.cli.data_names import MADE_HERE, is_table
from lightning_transfer.data.layout import check_folder
from lightning_transfer.data.table_text import unreadable
from lightning_transfer.data.tree import check_any_folder

BY_NAME = ("compare", "probe")
LIGHTNINGS = ("fit", "validate", "test", "extract")
FOLDER, TABLE = "ImageFolderDataModule", "ImageTableDataModule"


def check_paths(arguments: Sequence[str]) -> None:
    """Check the folder or table of images that a command line names.

    Args:
        arguments: Command and flags. What cannot be told from them alone is left to the command.

    Raises:
        DataError: There is no such folder or table.
    """
    command = arguments[0]
    if {"-h", "--help"} & {*arguments}:
        return
    if command in BY_NAME:
        _check_named(_value(arguments, "--data"))
    elif command == "predict":
        data = _value(arguments, "--data")
        if data is not None:
            check_any_folder(Path(data))
    elif command in LIGHTNINGS:
        _check_data_module(arguments)


def _check_named(data: str | None) -> None:
    if data is None or data in MADE_HERE:
        return
    if is_table(data):
        _check_table(data)
    else:
        check_folder(Path(data))


def _check_data_module(arguments: Sequence[str]) -> None:
    """Check what is typed, or else what a config says, of the two data modules that find images and make none."""
    typed = {
        name: _value(arguments, f"--data.{name}") or _value(arguments, f"--data.init_args.{name}")
        for name in ("root", "table")
    }
    named = _value(arguments, "--data") or _value(arguments, "--data.class_path")
    known: dict[str, Any] = {}
    if named is None:
        config = _data_of_config(_value(arguments, "--config") or _value(arguments, "-c"))
        named, known = config.get("class_path"), config.get("init_args") or {}
    # With no class at all there is an error in any case, and a wrong path is the one to begin with.
    class_name = FOLDER if named is None else str(named).rpartition(".")[2]
    if class_name == FOLDER and (root := typed["root"] or known.get("root")):
        check_folder(Path(str(root)))
    if class_name == TABLE and (table := typed["table"] or known.get("table")):
        _check_table(str(table))


def _data_of_config(path: str | None) -> dict[str, Any]:
    """The part `data` of a config; nothing of one that cannot be read, of which the parser will complain."""
    try:
        config = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    data = config.get("data") if isinstance(config, dict) else None
    return data if isinstance(data, dict) else {}


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag, as `--flag value` or `--flag=value`; the last one counts."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name == flag:
            found = value if equals else following
    return found


def _check_table(table: str) -> None:
    try:
        Path(table).stat()
    except OSError as error:
        raise unreadable(Path(table), error) from error
