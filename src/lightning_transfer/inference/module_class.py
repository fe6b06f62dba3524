"""The class that made a checkpoint: found without running what is not trusted, and built as it was."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.weights import weights_follow
from lightning_transfer.training.checkpoints import CLASS_KEY, ORIGINS, advice_if_newer, class_path
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.utils.allowed_packages import PACKAGES, is_allowed

# What LightningCLI adds to the arguments.
NO_ARGUMENTS = ("_class_path", "_instantiator")
FIXED = re.compile(r"got multiple values for (?:keyword )?argument '(\w+)'")


def find_class(checkpoint: Mapping[str, Any], path: object, allow_import: Sequence[str]) -> type[Classifier]:
    """Return the class that made a checkpoint, imported if it may be; `Classifier` where none is recorded.

    Args:
        checkpoint: As read.
        path: Its file, for the error.
        allow_import: Packages that may be imported, beside those that always may.

    Raises:
        ModuleError: It may not be imported, or it is not there, or it is no module of this library.
    """
    recorded = checkpoint.get(CLASS_KEY, class_path(Classifier))
    module, _, qualname = str(recorded).partition(":")
    if not all(part.isidentifier() for part in module.split(".")) or not qualname:
        raise ModuleError(f"{path} is damaged: it names {recorded!r} as the class that made it.")
    name = f"{module}.{qualname}"
    if "<locals>" in qualname:
        raise ModuleError(
            f"{path} was made by {name}, a class within a function, which cannot be imported: pass the class, "
            "load_classifier(path, module_class=…), or define it in a module of its own and train again."
        )
    if not is_allowed(module, allow_import):
        raise ModuleError(f"{path} was made by {name}, {_remedy(module)}")
    try:
        found: Any = import_module(module)
    except (ImportError, SyntaxError) as error:
        raise ModuleError(
            f"{path} was made by {name}, which cannot be imported ({type(error).__name__}: {error}): install its "
            f"package, or add the folder that holds it to PYTHONPATH.{advice_if_newer(checkpoint)}"
        ) from error
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if not isinstance(found, type):
            raise ModuleError(
                f"{path} was made by {name}, and there is no such class: {module} has none, or no longer has it. "
                f"Pass its successor, load_classifier(path, module_class=…).{advice_if_newer(checkpoint)}"
            )
    if not issubclass(found, Classifier):
        raise ModuleError(f"{path} names {name} as the class that made it, which is no subclass of Classifier.")
    made_by: type[Classifier] = found
    return made_by


def _remedy(module: str) -> str:
    if module == "__main__":
        return (
            "a class of a script or notebook, which is found nowhere else: pass the class, load_classifier(path, "
            "module_class=…), or move it to a module of its own and train again."
        )
    package = module.partition(".")[0]
    # Of the packages that may always be imported some parts may not.
    wanted = module if package in PACKAGES else package
    return (
        f"which is not imported unasked, since that runs its code: a checkpoint may name classes of "
        f"{', '.join(PACKAGES)}. If you trust {wanted} with whatever its code does, pass --allow-import {wanted} "
        f'(in Python load_classifier(path, allow_import=["{wanted}"])); or pass the class itself, '
        "load_classifier(path, module_class=…)."
    )


def rebuild(module_class: type[Classifier], checkpoint: Mapping[str, Any], path: object) -> Classifier:
    """Build a subclass with the arguments that a checkpoint has, and load all its weights.

    Files that the class takes weights from are not looked for, and its `__init__` need not take all arguments
    that `Classifier` has.

    Args:
        module_class: Somebody's own.
        checkpoint: As read.
        path: Its file, for the error.

    Raises:
        ModuleError: The class cannot be built so, or its layers are not those of the checkpoint.
    """
    name, advice = class_path(module_class).replace(":", "."), advice_if_newer(checkpoint)
    recorded = checkpoint["hyper_parameters"]
    arguments = {key: value for key, value in recorded.items() if key not in NO_ARGUMENTS}
    try:
        # Its layers are random until the weights are loaded; the caller's random numbers stay as they are.
        with weights_follow(), torch.random.fork_rng(devices=[]):
            module = _call(module_class, {**arguments, **dict.fromkeys(ORIGINS)})
            if module.network.head is None:  # its __init__ leaves the classes to the data
                module._build(recorded["num_classes"], recorded["image_size"], recorded["task"])
            module._set_task(recorded["task"])
            module.configure_model()
    except Exception as error:  # whatever somebody's code raises
        raise ModuleError(
            f"{name}, which made {path}, cannot be built with the arguments that are recorded there "
            f"({', '.join(arguments)}): {type(error).__name__}: {' '.join(str(error).split())}. Let its __init__ "
            f"take them, or pass a class that does, load_classifier(path, module_class=…).{advice}"
        ) from error
    try:
        module.on_load_checkpoint(dict(checkpoint))
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading, assign=True)
    except RuntimeError as error:
        raise ModuleError(
            f"The weights in {path} do not fit {name}: it has other layers than when they were saved, or another "
            f"class made them ({' '.join(str(error).split())}).{advice}"
        ) from error
    return module


def _call(module_class: type[Classifier], arguments: Mapping[str, Any]) -> Classifier:
    """Call a class with those arguments that it takes, by position where it wants them so."""
    parameters = inspect.signature(module_class).parameters.values()
    names = {each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    given = {name: value for name, value in arguments.items() if takes_any or name in names}
    only_by_position = [each.name for each in parameters if each.kind is each.POSITIONAL_ONLY]
    first = [given.pop(name) for name in only_by_position if name in given]
    while True:
        try:
            return module_class(*first, **given)
        except TypeError as error:
            # The record also has what a class passes on by itself: super().__init__("resnet18", **arguments).
            fixed = FIXED.search(str(error))
            if fixed is None or fixed[1] not in given.keys() - names:
                raise
            del given[fixed[1]]
