"""Find the row of stages in a network whose `forward_features` calls modules one after the other.

A forward pass on the meta device tells which modules are called, and with what. From the end of the network, each
call that takes exactly the tensor that the call before it gave is a unit; what comes before the first unit (class
tokens, position embeddings, …) is not made of modules alone, and becomes the first stage as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Containers of what a family calls its stages, and what one of them is called here.
CONTAINERS = {"stages": "stage", "dense_stages": "stage", "layers": "stage", "levels": "stage", "blocks": "block"}
# Own names of what the networks number without a container; ResNet's "layer1" stays as it is.
RENAMED = {"s": "stage"}
NUMBERED = re.compile(r"([A-Za-z]+)_?(\d+)")
# What a call may have besides the tensor: rotary position embeddings, which depend on the shape alone.
ROPE = "rope"


@dataclass
class Call:
    """One call of a module."""

    path: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    depth: int
    out: Any = None

    @property
    def extras(self) -> list[object]:
        """Names or places of what was passed besides the first argument; None and False stand for nothing."""
        passed = [*enumerate(self.args), *self.named.items()][1:]
        return [key for key, value in passed if value is not None and value is not False]


@dataclass(frozen=True)
class Chain:
    """The units of a network, in order.

    Attributes:
        units: Paths of modules; each takes what the one before it gives.
        whole: The first unit takes the images.
        breaks_at: Why the chain does not begin earlier, for the error.
        with_rope: The units that take rotary position embeddings, too.
        halvings: The units that give a map of at most three quarters of the height that they get.
    """

    units: tuple[str, ...]
    whole: bool
    breaks_at: str = ""
    with_rope: frozenset[str] = frozenset()
    halvings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """How a network is cut.

    Attributes:
        stages: Paths of modules by the name of their stage, in order.
        first: Name of the stage that is all that comes before them and is no chain; "" where there is none.
        with_rope: The paths that take rotary position embeddings, too.
    """

    stages: dict[str, tuple[str, ...]]
    first: str = ""
    with_rope: frozenset[str] = frozenset()


def record_calls(network: nn.Module, run: Callable[[], Any]) -> tuple[list[Call], Any]:
    """Run something and list the calls of a network's modules, in the order in which they begin."""
    calls: list[Call] = []
    running: list[Call] = []

    def begin(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            running.append(Call(path, args, named, len(running)))
            calls.append(running[-1])

        return hook

    def end(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        running.pop().out = out

    handles = []
    for path, module in network.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(begin(path), with_kwargs=True))
            handles.append(module.register_forward_hook(end, with_kwargs=True))
    try:
        with torch.no_grad():
            out = run()
    finally:
        for handle in handles:
            handle.remove()
    return calls, out


def find_chain(network: Any, images: Tensor) -> Chain:
    """Find the units of a network.

    Args:
        network: With `forward_features`, as timm's are; on the meta device, in eval mode.
        images: (1, 3, H, W), on the meta device.
    """
    calls, out = record_calls(network, lambda: network.forward_features(images))
    level = [call for call in calls if call.depth == 0]
    while len(level) == 1 and (inner := _children(network, level[0], calls)):
        level = inner
    level = [
        inner
        for call in level
        for inner in ((call.path in CONTAINERS and _children(network, call, calls)) or [call])
    ]
    units: list[Call] = []
    tensor, breaks_at = out, ""
    for call in reversed(level):
        if call.out is not tensor or not isinstance(tensor, Tensor):
            breaks_at = f"what follows {call.path} is not made of modules"
        elif not call.args or not isinstance(call.args[0], Tensor):
            breaks_at = f"{call.path} takes more than one map"
        elif call.extras and call.extras != [ROPE]:
            breaks_at = f"{call.path} takes more than a map or tokens"
        if breaks_at:
            break
        units.insert(0, call)
        tensor = call.args[0]
    return Chain(
        units=tuple(call.path for call in units),
        whole=tensor is images,
        breaks_at=breaks_at,
        with_rope=frozenset(call.path for call in units if call.extras),
        halvings=frozenset(call.path for call in units if _halves(call)),
    )


def _children(network: nn.Module, call: Call, calls: list[Call]) -> list[Call]:
    """The calls inside a call of a plain nn.Sequential; none where it is another module, or no tensors pass."""
    module = network.get_submodule(call.path)
    if type(module).forward is not nn.Sequential.forward:
        return []
    start = calls.index(call) + 1
    inner = [each for each in calls[start:] if each.path.rpartition(".")[0] == call.path]
    return inner if inner and all(isinstance(each.out, Tensor) for each in inner) else []


def _halves(call: Call) -> bool:
    before, after = call.args[0].shape, call.out.shape
    return len(before) == len(after) == 4 and after[2] <= 0.75 * before[2]


def make_plan(network: nn.Module, chain: Chain) -> Plan:
    """Join the units of a network into named stages.

    The names are those of torchvision's networks of the same kind: "stem", then "stage1", … or "block1", … or the
    network's own numbered names, then "last_conv" or "norm".
    """
    units = [path for path in chain.units if type(network.get_submodule(path)) is not nn.Identity]
    numbers = {path: key for path in units if (key := _numbered(path))}
    most = Counter(kind for kind, _ in numbers.values()).most_common(1)
    stages: dict[str, list[str]] = {}
    by_number = bool(most) and most[0][1] >= 3
    if by_number:
        mains = [path for path in units if path in numbers and numbers[path][0] == most[0][0]]
        names = [f"{kind}{number}" for kind, number in (numbers[path] for path in mains)]
    else:
        mains = _by_resolution(network, units, chain.halvings)
        names = [f"stage{number}" for number in range(1, len(mains) + 1)]
    first = units.index(mains[0])
    end = units.index(mains[-1]) + 1 if by_number else len(units)
    before, tail = units[:first], units[end:]
    stem = ""
    if not chain.whole:
        stem = "patch_embed" if hasattr(network, "patch_embed") else "stem"
    elif before:
        stages["stem"] = list(before)
    named = dict(zip(mains, names, strict=True))
    name = names[0]
    for path in units[first:end]:
        name = named.get(path, name)
        stages.setdefault(name, []).append(path)
    for path in tail:
        name = _name_of_tail(network.get_submodule(path), name)
        stages.setdefault(name, []).append(path)
    return Plan({name: tuple(paths) for name, paths in stages.items()}, stem, chain.with_rope)


def _numbered(path: str) -> tuple[str, int] | None:
    """The kind of a unit, and its number among those.

    >>> _numbered("stages.0"), _numbered("features.denseblock2"), _numbered("s4"), _numbered("features.3")
    (('stage', 1), ('denseblock', 2), ('stage', 4), None)
    """
    container, _, own = path.rpartition(".")
    if own.isdigit():
        return (CONTAINERS[container], int(own) + 1) if container in CONTAINERS else None
    match = NUMBERED.fullmatch(own)
    return (RENAMED.get(match[1], match[1]), int(match[2])) if match else None


def _by_resolution(network: nn.Module, units: list[str], halvings: Collection[str]) -> list[str]:
    """The units that begin a stage in a network without numbers: where a map shrinks, it does so by a factor of 2.

    A unit that shrinks the map and has parameters begins a stage; a pooling layer closes one.
    """
    begins = [units[0]]
    closed = False
    for path in units[1:]:
        has_parameters = any(True for _ in network.get_submodule(path).parameters())
        if closed or (path in halvings and has_parameters):
            begins.append(path)
        closed = path in halvings and not has_parameters
    return begins


def _name_of_tail(module: nn.Module, before: str) -> str:
    """The stage of a layer after the last numbered unit: a layer without parameters closes the stage before it.

    >>> _name_of_tail(nn.LayerNorm(3), "block12"), _name_of_tail(nn.ReLU(), "stage4")
    ('norm', 'stage4')
    """
    parameters = list(module.parameters())
    if not parameters or before == "last_conv":
        return before
    return "last_conv" if any(parameter.ndim > 1 for parameter in parameters) else "norm"
