"""Which callback a flag such as `--trainer.callbacks.schedule` is for, where a run has several.

jsonargparse gives it to the last of them, which is the right one only where it follows that callback's own
`--trainer.callbacks+=`: an overlay or another flag may have added one since.
"""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._typehints import ActionTypeHint
from lightning.pytorch.cli import LightningArgumentParser

from lightning_transfer.cli.arg_parsing import nearest
from lightning_transfer.cli.config_limits import loaded
from lightning_transfer.errors import UsageError

FLAG = "--trainer.callbacks"
OF_ANY = ("class_path", "init_args", "dict_kwargs")  # jsonargparse's own words, not arguments of a class


class CallbackAction(ActionTypeHint):
    """Give an argument of a callback to the last one that has it."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Parse a flag, as argparse calls it: parser, what is parsed so far, value, flag."""
        name = _argument(arguments[3]) if len(arguments) == 4 else None
        before = None if name is None else arguments[1].get(self.dest)
        if name is None or isinstance(before, Namespace):  # one callback, not a list
            return super().__call__(*arguments, **options)  # type: ignore[no-untyped-call]
        config, callbacks = arguments[1], list(before or ())
        owner = _owner(callbacks, name)
        config[self.dest] = [*callbacks[:owner], *callbacks[owner + 1 :], callbacks[owner]]
        super().__call__(*arguments, **options)  # type: ignore[no-untyped-call]
        others = list(config[self.dest])
        changed = others.pop()
        config[self.dest] = [*others[:owner], changed, *others[owner:]]


def find_owners(parser: LightningArgumentParser) -> None:
    """Have a parser's flags of callbacks go to the callback whose they are."""
    action = parser._option_string_actions[FLAG]
    assert type(action) is ActionTypeHint
    action.__class__ = CallbackAction


def _argument(flag: str) -> str | None:
    """Return which argument of a callback a flag names; None where it names none.

    >>> _argument("--trainer.callbacks.init_args.schedule"), _argument("--trainer.callbacks+")
    ('schedule', None)
    """
    if not flag.startswith(f"{FLAG}."):
        return None
    name = flag.removeprefix(f"{FLAG}.").removeprefix("init_args.").partition(".")[0]
    return None if name in OF_ANY else name


def _owner(callbacks: list[Any], name: str) -> int:
    """Return the place of the last callback that has an argument.

    Raises:
        UsageError: None has it.
    """
    for place in reversed(range(len(callbacks))):
        if name in _arguments(callbacks[place]):
            return place
    if not callbacks:
        raise UsageError(f"{FLAG}.{name}: there is no callback yet. Add it before: {FLAG}+=CLASS.")
    names = ", ".join(callback.class_path.rpartition(".")[2] for callback in callbacks)
    known = sorted(set().union(*map(_arguments, callbacks)))
    raise UsageError(f"{FLAG}.{name}: no argument of {names}{nearest(name, known)}")


def _arguments(callback: Namespace) -> set[str]:
    """Return the names of a callback's arguments, those of its base classes too."""
    parser = ArgumentParser(exit_on_error=False)
    found: list[str] = parser.add_class_arguments(loaded(callback.class_path), fail_untyped=False)
    return set(found)
