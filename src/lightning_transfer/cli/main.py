"""`lightning-transfer`: the table of commands, and how each is called."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import docstring_parser
from rich.console import Console
from rich.text import Text

from lightning_transfer.cli.arg_parsing import CommandParser, nearest, own_flags, paragraph
from lightning_transfer.cli.config_limits import limit_configs
from lightning_transfer.cli.early_checks import check_paths
from lightning_transfer.cli.signals import ends_by_signals
from lightning_transfer.errors import TransferError, UsageError

PROGRAM = "lightning-transfer"
DESCRIPTION = "Transfer learning with a pretrained convolutional network."
# The commands in the order in which one meets them, with the first line of what each says of itself.
OVERVIEW = {
    "compare": "Run feature extraction, frozen backbone and fine-tuning on the same images, and compare them.",
    "probe": "Train a linear classifier on every stage of a backbone, and say how much of the backbone to keep.",
    "summary": "Print the layer table of a backbone: name, type, output shape, parameters.",
    "extract": "Run the backbone once over every image, and keep its outputs on disk.",
    "verify": "Read all of a feature store, and say whether it is what was made.",
    "fit": "Train, on images or on features, which are extracted where they are not there.",
    "validate": "Scores on the validation images.",
    "test": "Scores on the test images.",
    "predict": "Write a CSV file with a row for each image of a folder: path, label, probability of each class.",
    "classify": "Print what each image shows: file, class, probability.",
    "explain": "Draw an image, and beside it Grad-CAM's heat: which places speak for a class.",
    "export": "Write a checkpoint's network as a file for onnxruntime or torch.export",
}
# Those that are not Lightning's, and which of their arguments need no flag. Each is the function of its name in
# lightning_transfer.cli.commands; what it needs is imported when it is called for.
COMMANDS: dict[str, tuple[str, ...]] = {
    "classify": ("checkpoint", "images"),
    "compare": (),
    "explain": ("checkpoint", "image"),
    "export": ("checkpoint",),
    "predict": (),
    "probe": (),
    "summary": (),
    "verify": ("store",),
}


@ends_by_signals()
def main() -> None:
    """Entry point; errors are one paragraph on stderr, after the traceback with `--debug`.

    It exits with 2 where the command line or a config cannot be used as it is, with 1 after any other error.
    """
    # Stored features are read faster without workers, and one decodes as fast as a backbone on a CPU computes.
    warnings.filterwarnings("ignore", ".*does not have many workers")
    warnings.filterwarnings("ignore", ".*is not supported by the model summary")
    # Scores are logged once an epoch, whatever the interval.
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval")
    # Lightning 2.6 with torch from 2.13 on.
    warnings.filterwarnings("ignore", ".*LeafSpec")
    debug = "--debug" in sys.argv
    try:
        # sys.argv stays whole: DDP's further processes are started with it.
        _run(*own_flags(sys.argv[1:]))
    except Exception as error:  # noqa: BLE001  # whatever it is, a person reads it
        if debug:
            traceback.print_exc()
        complaint, code = _complaint(error, debug)
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), complaint), soft_wrap=True)
        sys.exit(code)


def _run(arguments: Sequence[str], packages: Sequence[str]) -> None:
    if arguments in ([], ["-h"], ["--help"]):
        _overview()
        return
    check_paths(arguments)
    if arguments[0] in COMMANDS:
        _own_command(arguments[0], arguments[1:], packages)
    elif arguments[0] in OVERVIEW or arguments[0].startswith("-"):
        from lightning_transfer.cli import lightning as lightning_cli

        limit_configs(packages)  # only now, since Lightning sets limits of its own when it is imported
        lightning_cli.run(PROGRAM, DESCRIPTION, arguments)
    else:
        raise UsageError(f"There is no command {arguments[0]!r}{nearest(arguments[0], OVERVIEW)}")


def _overview() -> None:
    """In place of Lightning's, for which the arguments of all commands would have to be gathered."""
    lines = [
        f"usage: {PROGRAM} COMMAND [arguments]",
        "",
        DESCRIPTION,
        "",
        "commands, each with a --help of its own:",
    ]
    lines += [f"  {name:<10}{about}" for name, about in OVERVIEW.items()]
    print("\n".join(lines))  # noqa: T201


def _own_command(name: str, arguments: Sequence[str], packages: Sequence[str]) -> None:
    function: Callable[..., Any] = getattr(import_module(f"lightning_transfer.cli.commands.{name}"), name)
    limit_configs()
    documentation = docstring_parser.parse(function.__doc__ or "")
    about = {argument.arg_name: argument.description for argument in documentation.params}
    parser = CommandParser(
        prog=f"{PROGRAM} {name}",
        description=documentation.short_description,
        exit_on_error=False,
        allow_abbrev=False,
    )
    plain: set[str | int] = set(COMMANDS[name])
    groups: dict[str, type] = {}
    for argument, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            groups[argument] = parameter.annotation
        elif argument in plain:
            several = "+" if parameter.annotation == list[str] else None
            parser.add_argument(argument, type=str, nargs=several, help=about[argument])
        elif argument == "allow_import":
            # Parsed by `own_flags`; here for --help.
            plain.add(argument)
            parser.add_argument("--allow-import", metavar="PACKAGE", default=packages, help=about[argument])
        elif parameter.default is False:
            plain.add(argument)
            parser.add_argument(f"--{argument}", action="store_true", help=about[argument])
    parser.add_function_arguments(function, skip={*plain, *groups}, as_positional=False)
    for group in groups.values():
        parser.add_class_arguments(group)  # flat: its fields are flags like the others
    given = parser.parse_args(arguments).as_dict()
    for argument, group in groups.items():
        given[argument] = group(**{field.name: given.pop(field.name) for field in fields(group)})
    function(**given)


def _complaint(error: Exception, debug: bool) -> tuple[str, int]:
    """Return the message for an error, and the exit code."""
    if mendable := _mendable(error):
        return _plain(mendable), 2 if isinstance(mendable, UsageError) else 1
    if isinstance(error, ArgumentError):
        return paragraph(str(error)), 2
    more = "" if debug else " (pass --debug for the traceback)"
    return f"{type(error).__name__}: {paragraph(str(error))}{more}", 1


def _mendable(error: BaseException | None) -> TransferError | None:
    """The person's own error, also where jsonargparse, that tries a class for several types, wraps it."""
    while error is not None and not isinstance(error, TransferError):
        error = error.__cause__ or error.__context__
    return error


def _plain(error: TransferError) -> str:
    """The message itself, also where a DataLoader has put a worker's traceback around it."""
    return str(error).rpartition(f"{type(error).__qualname__}: ")[2].strip()
