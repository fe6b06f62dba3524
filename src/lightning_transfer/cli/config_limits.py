"""Limits of what configs and command lines may name: local files, and classes of a few packages."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import Namespace, set_parsing_settings

from lightning_transfer.errors import UsageError
from lightning_transfer.utils.allowed_packages import LAUNCHERS, PACKAGES


def limit_configs(packages: Sequence[str] = ()) -> None:
    """Set the limits for all parsers of this process; names are checked before anything is imported.

    An object is refused, too, whose name is allowed but which another package defines, such as `torch.os.system`.

    Args:
        packages: What `--allow-import` adds to those that are always allowed.
    """
    set_parsing_settings(
        config_read_mode_urls_enabled=False,
        config_read_mode_fsspec_enabled=False,
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=["*", *LAUNCHERS],
        import_path_allowlist=[*PACKAGES, *packages],
    )


def refuse_functions(config: Any) -> None:
    """Refuse functions in what was parsed, before anything is called.

    The allowed packages have functions that run files or load pickled objects, and some of their classes call
    whatever function they are given.

    Raises:
        UsageError: A function is named where there should be a class.
    """
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, Mapping):
        path = config.get("class_path")
        named = loaded(path) if isinstance(path, str) else None
        for part in (named, *config.values()):
            refuse_functions(part)
    elif isinstance(config, list | tuple | set | frozenset):
        for part in config:
            refuse_functions(part)
    elif inspect.isroutine(config) or isinstance(config, functools.partial):
        name = f"{getattr(config, '__module__', None)}.{getattr(config, '__qualname__', config)}"
        raise UsageError(f"{name} is a function: a config names classes alone.")


def loaded(path: str) -> Any:
    """Return what a dotted name stands for, if its module is loaded; nothing is imported."""
    module, _, name = path.rpartition(".")
    names = [name]
    while module and module not in sys.modules:
        module, _, name = module.rpartition(".")
        names.insert(0, name)
    return functools.reduce(lambda found, part: getattr(found, part, None), names, sys.modules.get(module))
