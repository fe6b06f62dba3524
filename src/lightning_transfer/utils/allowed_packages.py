"""Which packages a file may name classes of: a config, or a checkpoint that says which class made it."""

from __future__ import annotations

from collections.abc import Sequence

PACKAGES = ("lightning_transfer", "lightning", "torch", "torchvision", "torchmetrics")
# Parts of them that start whatever program they are told to, or unpickle whatever file.
LAUNCHERS = (
    "torch._dynamo",
    "torch._inductor",
    "torch._vendor",
    "torch.distributed.elastic",
    "torch.distributed.launcher",
    "torch.hub",
    "torch.package",
    "torch.utils.cpp_extension",
)


def is_allowed(module: str, packages: Sequence[str] = ()) -> bool:
    """Return whether a file may have a module imported; the longest name that fits decides, as in a config.

    Args:
        module: Its dotted name.
        packages: What is allowed beside `PACKAGES`.

    >>> is_allowed("torch.nn"), is_allowed("torch.hub"), is_allowed("torchevil")
    (True, False, False)
    >>> is_allowed("mine.heads"), is_allowed("mine.heads", ["mine"]), is_allowed("mine", ["mine.heads"])
    (False, True, False)
    """
    verdicts = {**dict.fromkeys(LAUNCHERS, False), **dict.fromkeys((*PACKAGES, *packages), True)}
    parts = module.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((verdicts[name] for name in names if name in verdicts), False)
