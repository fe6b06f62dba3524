"""A resumed run uses what was asked, or says that it does not.

Every argument of the module and of its data that differs from the checkpoint's is either refused, with both
values, or applied, and said. The learning rates follow the run's own arguments too, see `StageLRScheduler`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lightning_transfer.errors import ModuleError
from lightning_transfer.training.checkpoints import BACKBONE, ORIGINS
from lightning_transfer.utils.given_arguments import plain

DATA_KEY = "data_arguments"
# What must be the checkpoint's: it says which network this is, whose weights fit no other, …
NETWORK = (*BACKBONE, "pool", "hidden")
# … or what its output and the optimizer's state mean.
FIXED = (*NETWORK, "num_classes", "image_size", "task", "optimizer", "optimizer_options")
# What is not compared: the checkpoint holds what was in these files, and this says only who checks.
IGNORED = (*ORIGINS, "audit_freezing")


def check_resumed(
    checkpoint: Mapping[str, Any], arguments: Mapping[str, Any], data: Any, path: object
) -> str | None:
    """Compare a run's arguments with those of the checkpoint that it resumes.

    Args:
        checkpoint: As read.
        arguments: The module's.
        data: The run's data module, or None.
        path: Of the checkpoint, for the error.

    Returns:
        What differs and is used as this run has it, for people; None where nothing does.

    Raises:
        ModuleError: Something differs that cannot change within a run.
    """
    recorded = checkpoint["hyper_parameters"]
    ours = {name: plain(value) for name, value in arguments.items() if name in recorded and name not in IGNORED}
    differing = dict(_differences({name: plain(recorded[name]) for name in ours}, ours))
    for name, (theirs, asked) in differing.items():
        if name.partition(".")[0] in FIXED:
            other = "without a checkpoint" if name in NETWORK else f"with init_from={path}"
            raise ModuleError(
                f"{path} was trained with {name}={theirs!r}, this run has {name}={asked!r}, which cannot change "
                f"when a run resumes: pass the checkpoint's, or begin a new run {other}."
            )
    before, now = checkpoint.get(DATA_KEY) or {}, data_arguments(data)
    shared = before.keys() & now.keys()
    differing |= dict(_differences({name: before[name] for name in shared}, {name: now[name] for name in shared}))
    if not differing:
        return None
    changes = ", ".join(f"{name} {theirs} → {asked}" for name, (theirs, asked) in sorted(differing.items()))
    return f"{path} was made with other arguments; this run goes on with its own: {changes}."


def data_arguments(data: Any) -> dict[str, Any]:
    """Return a data module's class and arguments, as far as it tells them (`arguments`)."""
    told = getattr(data, "arguments", None)
    return {} if not isinstance(told, Mapping) else {"data": type(data).__name__, **told}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in now:
        theirs, ours = before.get(name), now[name]
        if isinstance(theirs, Mapping) and isinstance(ours, Mapping) and theirs.keys() == ours.keys():
            yield from ((f"{name}.{part}", pair) for part, pair in _differences(theirs, ours))
        elif theirs != ours:
            yield name, (theirs, ours)
