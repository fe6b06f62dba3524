"""Measure everything, and write RESULTS.md: `python -m benchmarks --real FOLDER`."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks import cached_cut, decoding, epochs, extraction, growth, head, scaling, steps
from benchmarks.other_load import OtherLoad
from benchmarks.report import render
from benchmarks.results import Conditions, Measurement, belongs, keep, kept
from benchmarks.settings import Settings
from benchmarks.timing import machine

GROUPS: dict[str, Callable[[Settings], list[Measurement]]] = {
    "extraction": extraction.measure,
    "decoding": decoding.measure,
    "head": head.measure,
    "steps": steps.measure,
    "epochs": epochs.measure,
    "cached_cut/squeezenet1_1": cached_cut.squeezenet1_1,
    "cached_cut/resnet18": cached_cut.resnet18,
    "cached_cut/vgg16": cached_cut.vgg16,
    "growth": growth.measure,
    "scaling": scaling.measure,
}


def main(
    real: str = "../shared",
    only: list[str] | None = None,
    rounds: int = 3,
    quick: bool = False,
    again: bool = False,
    out: str = "benchmarks/RESULTS.md",
    environments: str = "benchmarks/.environments",
) -> None:
    """Measure what has not been measured, and write the page from everything there is.

    A group's figures are saved next to the page, in `.results`, as soon as it is done. A group that has been saved
    with as many rounds is not run again. `--only '[]'` only writes the page.

    Args:
        real: The folder with `data/cats_and_dogs_small` and `weights/squeezenet1_1-imagenet-features.pth`.
        only: Some of extraction, decoding, head, steps, epochs, cached_cut, growth, scaling, or one of a group, as
            cached_cut/vgg16; None for all.
        rounds: How often each candidate runs, A B A B.
        quick: A tenth of the work, to see that it runs; on a page of its own unless `out` is given.
        again: Run what has been measured, too.
        out: The page.
        environments: The folder of Keras' and fastai's environments, made if absent.
    """
    asked = list(GROUPS) if only is None else only
    wanted = [name for name in GROUPS if any(belongs(name, group) for group in asked)]
    if unknown := [group for group in asked if not any(belongs(name, group) for name in GROUPS)]:
        sys.exit(f"--only: there is no {', '.join(unknown)}; wanted some of {', '.join(GROUPS)}.")
    settings = Settings(Path(real), Path(environments), rounds, quick)
    if wanted and not settings.weights.is_file():
        sys.exit(f"--real: there is no {settings.weights}.")
    page = Path(out)
    folder = page.parent / (".results_quick" if quick else ".results")
    if quick and out == "benchmarks/RESULTS.md":
        page = folder / "RESULTS.md"
    for name in wanted:
        if again or not is_there(name, folder, rounds):
            run(name, settings, folder)
        write(page, folder)
    write(page, folder)
    print(f"{page} is written.")


def is_there(group: str, folder: Path, rounds: int) -> bool:
    """Return whether a group has been measured with as many rounds."""
    mine = [m for m in kept(folder) if belongs(m.name, group)]
    return bool(mine) and all(m.conditions is not None and m.conditions.rounds == rounds for m in mine)


def run(group: str, settings: Settings, folder: Path) -> None:
    """Measure a group, and save its figures."""
    print(f"{group}: {settings.rounds} rounds", flush=True)
    others = OtherLoad()
    found = GROUPS[group](settings)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    conditions = Conditions(date, machine(), settings.rounds, settings.quick, others.share())
    for measurement in found:
        keep(replace(measurement, conditions=conditions), folder)


def write(page: Path, folder: Path) -> None:
    """Write the page from the saved figures."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(kept(folder), tuple(GROUPS)))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
