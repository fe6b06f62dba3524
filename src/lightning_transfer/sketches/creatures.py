"""Images of many classes other than cats and dogs, to pretrain a small network on.

Many are mammals with the coats, poses and scenes of cats and dogs, so that a network must learn to look at ears,
eyes and muzzles, as it must with pets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from lightning_transfer.sketches.canvas import PINK, Box, Canvas, Colour, Sketcher
from lightning_transfer.sketches.coats import any_coat
from lightning_transfer.sketches.mammals import draw_mammal
from lightning_transfer.sketches.scene import render
from lightning_transfer.sketches.small_animals import SMALL_ANIMALS
from lightning_transfer.sketches.things import THINGS
from lightning_transfer.sketches.traits import Mammal

_SKIN: Colour = (222, 160, 140)


def _bear(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), width=1.12, jaw=0.85, muzzle=(0.46, 0.38), snout=0.45, nose_size=0.2, eyes="dot",
        girth=1.35, legs=1.0,
    )  # fmt: skip


def _cow(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="sideways", width=0.86, jaw=0.62, length=1.25, muzzle=(0.6, 0.4), snout=0.85,
        nose="snout", nose_size=0.26, nose_colour=_SKIN, eye_spread=0.5, tail="tufted", girth=1.25, legs=1.4,
        head=0.8, extras=("horns", "udder"),
    )  # fmt: skip


def _elephant(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="fan", nose="trunk", eyes="dot", tail="tufted", girth=1.4, legs=1.2, head=0.95,
    )  # fmt: skip


def _fox(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng, pattern="bib"), ears="pointed", ear_size=rng.uniform(0.95, 1.25), width=1.12, jaw=0.5,
        length=1.15, muzzle=(0.27, 0.32), snout=0.8, nose_size=0.14, eyes="almond", eye_size=0.15,
        iris=(150, 100, 40), pupil=0.5, tail="bushy", girth=0.8, legs=1.1, extras=("cheeks",),
    )  # fmt: skip


def _hamster(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="round", ear_size=0.62, width=1.25, jaw=1.05, length=0.85, muzzle=(0.34, 0.26),
        snout=0.2, nose="triangle", nose_size=0.09, nose_colour=PINK, eyes="dot", eye_size=0.24,
        eye_spread=0.55, whiskers=rng.uniform(0, 0.5), tail="none", girth=1.2, legs=0.5, head=1.3,
        extras=("teeth",),
    )  # fmt: skip


def _koala(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ear_size=1.35, ear_spread=1.25, width=1.1, jaw=0.85, length=0.9, muzzle=(0.3, 0.3),
        snout=0.25, nose_size=0.32, eyes="dot", tail="none", girth=1.15, legs=0.8, head=1.15,
    )  # fmt: skip


def _lion(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="round", ear_size=0.75, width=1.0, jaw=0.8, length=1.1, muzzle=(0.46, 0.36),
        snout=0.5, nose="triangle", nose_size=0.22, eyes="almond", eye_size=0.15, iris=(190, 140, 50),
        pupil=0.6, whiskers=rng.uniform(0, 0.4), tail="tufted", girth=1.05, legs=1.2, extras=("mane",),
    )  # fmt: skip


def _mouse(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ear_size=rng.uniform(1.3, 1.7), ear_spread=1.2, width=0.86, jaw=0.5, length=1.0,
        muzzle=(0.24, 0.22), snout=0.6, nose="triangle", nose_size=0.1, nose_colour=PINK, eyes="dot",
        eye_size=0.2, whiskers=rng.uniform(0.3, 0.9), tail="thin", girth=0.9, legs=0.6, head=1.15,
        extras=("teeth",),
    )  # fmt: skip


def _panda(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng, "white", "cream", "fawn", "gray", pattern="points"), width=1.18, jaw=0.9,
        muzzle=(0.36, 0.3), snout=0.35, nose_size=0.16, eyes="round", eye_size=0.13, girth=1.35, legs=0.9,
        extras=("patches",),
    )  # fmt: skip


def _pig(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="tipped", ear_size=0.85, width=1.12, jaw=0.9, muzzle=(0.44, 0.36), snout=0.6,
        nose="snout", nose_size=0.24, nose_colour=PINK, eyes="dot", eye_spread=0.5, tail="curled", girth=1.4,
        legs=0.8,
    )  # fmt: skip


def _rabbit(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="long", ear_size=rng.uniform(0.9, 1.3), width=0.95, jaw=0.78, length=0.95,
        muzzle=(0.32, 0.27), snout=0.3, nose="triangle", nose_size=0.1, nose_colour=PINK, eye_size=0.19,
        eye_spread=0.5, whiskers=rng.uniform(0, 0.9), girth=1.05, legs=0.8, head=1.1, extras=("teeth",),
    )  # fmt: skip


def _raccoon(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="round", ear_size=0.85, width=1.15, jaw=0.6, length=1.02, muzzle=(0.32, 0.3),
        snout=0.6, nose_size=0.15, eyes="round", eye_size=0.14, whiskers=rng.uniform(0, 0.5), tail="bushy",
        girth=1.0, legs=0.9, extras=("mask", "cheeks"),
    )  # fmt: skip


def _sheep(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng, pattern="plain"), ears="sideways", ear_size=0.9, width=0.8, jaw=0.52, length=1.2,
        muzzle=(0.34, 0.3), snout=0.7, nose="triangle", nose_size=0.12, eyes="round", girth=1.3, legs=1.0,
        head=0.75, extras=("wool",),
    )  # fmt: skip


def _squirrel(rng: np.random.Generator) -> Mammal:
    return Mammal(
        any_coat(rng), ears="pointed", ear_size=0.55, ear_spread=0.85, width=0.92, jaw=0.66,
        muzzle=(0.28, 0.24), snout=0.4, nose_size=0.1, eyes="dot", eye_size=0.25, eye_spread=0.5, tail="plume",
        girth=0.85, legs=0.7, head=1.15, extras=("teeth",),
    )  # fmt: skip


_MAMMALS: dict[str, Callable[[np.random.Generator], Mammal]] = {
    "bear": _bear,
    "cow": _cow,
    "elephant": _elephant,
    "fox": _fox,
    "hamster": _hamster,
    "koala": _koala,
    "lion": _lion,
    "mouse": _mouse,
    "panda": _panda,
    "pig": _pig,
    "rabbit": _rabbit,
    "raccoon": _raccoon,
    "sheep": _sheep,
    "squirrel": _squirrel,
}


def _mammal(
    traits: Callable[[np.random.Generator], Mammal], rng: np.random.Generator, size: int = 150
) -> tuple[Image.Image, Box]:
    canvas = Canvas(rng)
    draw_mammal(canvas, traits(rng))
    return render(canvas, size)


def _thing(draw: Callable[[Canvas], None], rng: np.random.Generator, size: int = 150) -> tuple[Image.Image, Box]:
    canvas = Canvas(rng)
    draw(canvas)
    return render(canvas, size)


CREATURES: dict[str, Sketcher] = {
    **{name: partial(_mammal, traits) for name, traits in _MAMMALS.items()},
    **{name: partial(_thing, draw) for name, draw in {**SMALL_ANIMALS, **THINGS}.items()},
}
