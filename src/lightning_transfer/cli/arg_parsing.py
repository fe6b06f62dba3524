"""Reading a command line, and what is said of one that is wrong: one paragraph, with the nearest right name."""

from __future__ import annotations

import difflib
import re
import sys
from argparse import SUPPRESS, ArgumentError
from collections.abc import Iterable, Sequence
from typing import NoReturn

from jsonargparse import ArgumentParser

from lightning_transfer.errors import UsageError
from lightning_transfer.utils.allowed_packages import PACKAGES

# How argparse, jsonargparse and Python put what is put better here. What is not found keeps their words.
UNKNOWN_KEY = re.compile(
    r"(?:Group '([^']+)' .*|Subcommand .*|unrecognized arguments: -)?(?:[Oo]ption '|-)([\w.-]+)"
)
UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\w+)|module '([\w.]+)' has no attribute '(\w+)'")
DENIED = re.compile(r"Importing '([^']+)' is not allowed, denied by the '([^']+)' entry")
REMOTE = re.compile(r"(?:does not exist: '|Expected a path but )([a-z][a-z0-9+.-]*(?:://|::)[^\s']*)")
# What a union of types adds to the one message that counts.
NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Expected a path but|Expected a <class 'NoneType'>|"
    r"Given value type:|Given value: (?:NestedArg|Namespace|\{)|"
    r"Problem with given class_path 'lightning\.Callback'|$"
)
# Where the classes are that need no dotted name.
SHORT_NAMES = ("lightning_transfer", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")


class CommandParser(ArgumentParser):
    """A parser that names the nearest right key where one is wrong, also to the parsers of classes within."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the parsing with the nearest right key added; an inner parser's message is complete."""
        wrong = UNKNOWN_KEY.match(message)
        if wrong and not isinstance(ex, ArgumentError):
            parser = getattr(ex, "subcommand_parser", self)
            known = [action.dest for action in parser._actions if SUPPRESS not in (action.dest, action.default)]
            message = message.rstrip(".") + _nearest_key(".".join(filter(None, wrong.groups())), known)
        super().error(message, ex)


def own_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take out the flags of every command, in any position: `--debug` and `--allow-import PACKAGE`.

    Returns:
        The other arguments, and the packages.

    Raises:
        UsageError: `--allow-import` without the name of a package.

    >>> own_flags(["fit", "--allow-import", "mine", "--model=mine.Model", "--debug"])
    (['fit', '--model=mine.Model'], ['mine'])
    """
    others: list[str] = []
    packages: list[str] = []
    following = iter(arguments)
    for argument in following:
        flag, equals, value = argument.partition("=")
        if flag == "--allow-import":
            package = value if equals else next(following, "")
            if package == "jsonargparse" or not all(part.isidentifier() for part in package.split(".")):
                raise UsageError(f"--allow-import wants the name of a package, got {package!r}.")
            packages.append(package)
        elif argument != "--debug":
            others.append(argument)
    return others, packages


def configs_first(arguments: Sequence[str]) -> list[str]:
    """Move configs before the flags, so that what was typed goes before what a config says, in any order.

    >>> configs_first(["fit", "--model.lr", "1", "--config", "a.yaml", "--data.seed=2", "-c=b.yaml"])
    ['fit', '--config', 'a.yaml', '-c=b.yaml', '--model.lr', '1', '--data.seed=2']
    """
    command, *others = arguments
    configs: list[str] = []
    flags: list[str] = []
    following = iter(others)
    for argument in following:
        if argument in ("--config", "-c"):
            configs += [argument, *[value for value in [next(following, None)] if value is not None]]
        else:
            (configs if argument.startswith(("--config=", "-c=")) else flags).append(argument)
    return [command, *configs, *flags]


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that does not exist.

    >>> nearest("fitt", ["fit", "test"]), nearest("draw", ["fit", "test"])
    (': did you mean fit?', ': there are fit, test.')
    """
    known = list(known)
    return _hint(difflib.get_close_matches(name, known, n=1), known)


def paragraph(message: str) -> str:
    """A message of many lines, for programmers, as a paragraph for whoever typed."""
    if denied := DENIED.search(message):
        path, entry = denied.groups()
        package = path.partition(".")[0] if entry == "*" else entry
        return (
            f"{path} is refused: a config may name classes of {', '.join(PACKAGES)}. "
            f"If you trust {package} with whatever its code does, pass --allow-import {package}."
        )
    if remote := REMOTE.search(message):
        return f"{remote[1]} is not fetched: configs are files. Read what it says, and pass the file."
    if wrong := UNKNOWN_CLASS.search(message):
        short, module, name = wrong.groups()
        modules = [sys.modules.get(place) for place in (SHORT_NAMES if short else [module])]
        known = [public for module in modules for public in getattr(module, "__all__", [])]
        return f"There is no class {short or f'{module}.{name}'}{nearest(short or name, known)}"
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    said = " ".join(dict.fromkeys(line for line in lines if not NOISE.match(line)))
    said = re.sub(r"Parser key \"([^\"]+)\"", r"\1", said)
    return re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", said)


def _nearest_key(key: str, known: Iterable[str]) -> str:
    """Suggest a key by the first wrong part of a dotted key, compared with the parts beside it."""
    parts, paths = key.split("."), [other.split(".") for other in known]
    for place, name in enumerate(parts):
        beside = dict.fromkeys(path[place] for path in paths if path[:place] == parts[:place] != path)
        if name not in beside:
            near = difflib.get_close_matches(name, beside, n=1)
            return _hint([".".join([*parts[:place], *near])] if near else [], list(beside))
    return "."


def _hint(near: Sequence[str], known: Sequence[str]) -> str:
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}." if known else "."
