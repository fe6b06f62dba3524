"""Cats and dogs: which traits make a mammal one or the other.

Coats, poses, places and light have the same distribution for both. Single traits overlap: some dogs have pointed
ears, some cats have round pupils or no visible whiskers.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from lightning_transfer.sketches.canvas import BLACK, PINK, Box, Canvas, Colour
from lightning_transfer.sketches.coats import any_coat
from lightning_transfer.sketches.mammals import draw_mammal
from lightning_transfer.sketches.scene import render
from lightning_transfer.sketches.traits import Mammal

_IRISES: tuple[Colour, ...] = ((150, 180, 70), (206, 170, 60), (110, 170, 200), (190, 120, 50), (120, 170, 110))
_BROWNS: tuple[Colour, ...] = ((70, 44, 30), (96, 60, 34), (48, 34, 30), (120, 160, 190))


def _one_of(rng: np.random.Generator, *values: str) -> str:
    return values[int(rng.integers(len(values)))]


def cat(rng: np.random.Generator) -> Mammal:
    """Draw random traits of a cat."""
    round_eyes = rng.random() < 0.15
    return Mammal(
        coat=any_coat(rng),
        ears="folded" if rng.random() < 0.1 else "pointed",
        ear_size=rng.uniform(0.72, 1.08),
        width=rng.uniform(1.02, 1.22),
        jaw=rng.uniform(0.72, 0.92),
        length=rng.uniform(0.8, 0.94),
        muzzle=(rng.uniform(0.3, 0.4), rng.uniform(0.24, 0.3)),
        snout=rng.uniform(0.1, 0.24),
        nose="triangle",
        nose_size=rng.uniform(0.1, 0.15),
        nose_colour=PINK if rng.random() < 0.6 else (92, 62, 60),
        eyes="round" if round_eyes else "almond",
        eye_size=rng.uniform(0.21, 0.28),
        eye_spread=rng.uniform(0.42, 0.52),
        iris=_IRISES[int(rng.integers(len(_IRISES)))],
        pupil=rng.uniform(0.25, 0.5) if rng.random() < 0.6 else rng.uniform(0.7, 0.95),
        whiskers=0.0 if rng.random() < 0.15 else rng.uniform(0.5, 0.95),
        tongue=rng.random() < 0.04,
        tail=_one_of(rng, "thin", "thin", "bushy"),
        legs=rng.uniform(1.0, 1.4),
        girth=rng.uniform(0.8, 1.1),
        head=rng.uniform(0.85, 1.15),
        extras=("cheeks",) if rng.random() < 0.35 else (),
    )


def dog(rng: np.random.Generator) -> Mammal:
    """Draw random traits of a dog."""
    return Mammal(
        coat=any_coat(rng),
        ears=_one_of(rng, "floppy", "floppy", "floppy", "tipped", "pointed"),
        ear_size=rng.uniform(0.75, 1.1),
        width=rng.uniform(0.86, 1.06),
        jaw=rng.uniform(0.56, 0.78),
        length=rng.uniform(1.02, 1.25),
        muzzle=(rng.uniform(0.42, 0.56), rng.uniform(0.44, 0.56)),
        snout=rng.uniform(0.65, 1.15),
        nose="oval",
        nose_size=rng.uniform(0.19, 0.27),
        nose_colour=BLACK if rng.random() < 0.75 else (112, 70, 62),
        eyes="round" if rng.random() < 0.7 else "dot",
        eye_size=rng.uniform(0.14, 0.2),
        eye_spread=rng.uniform(0.36, 0.46),
        iris=_BROWNS[int(rng.integers(len(_BROWNS)))],
        pupil=0.9,
        whiskers=rng.uniform(0.1, 0.3) if rng.random() < 0.2 else 0.0,
        tongue=rng.random() < 0.4,
        tail=_one_of(rng, "sabre", "sabre", "bushy", "curled", "short"),
        legs=rng.uniform(1.1, 1.7),
        girth=rng.uniform(0.85, 1.15),
        head=rng.uniform(0.85, 1.12),
        extras=("cheeks",) if rng.random() < 0.12 else (),
    )


def draw_cat(rng: np.random.Generator, size: int = 150) -> tuple[Image.Image, Box]:
    """Draw an image of a cat.

    Args:
        rng: Source of all randomness: the same state gives the same pixels.
        size: Pixels along each side.

    Returns:
        An RGB image, and the part of it that the cat covers: left, top, right, bottom.

    >>> image, (left, top, right, bottom) = draw_cat(np.random.default_rng(7))
    >>> image.size, 0 <= left < right <= 150, 0 <= top < bottom <= 150
    ((150, 150), True, True)
    >>> image == draw_cat(np.random.default_rng(7))[0]
    True
    """
    canvas = Canvas(rng)
    draw_mammal(canvas, cat(rng))
    return render(canvas, size)


def draw_dog(rng: np.random.Generator, size: int = 150) -> tuple[Image.Image, Box]:
    """Draw an image of a dog; see `draw_cat`."""
    canvas = Canvas(rng)
    draw_mammal(canvas, dog(rng))
    return render(canvas, size)
