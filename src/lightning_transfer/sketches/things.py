"""Plants, buildings, vehicles and household things, each drawn with a few strokes in its own units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lightning_transfer.sketches.canvas import (
    BLACK,
    WHITE,
    Canvas,
    blob,
    curve,
    ellipse,
    limb,
    mix,
    symmetric,
)
from lightning_transfer.sketches.scene import any_colour

_PANE = np.array([(-0.25, -0.25), (0.25, -0.25), (0.25, 0.25), (-0.25, 0.25)])


def _tree(canvas: Canvas) -> None:
    rng, leaves = canvas.rng, mix(any_colour(canvas.rng), (70, 130, 60), 0.5)
    canvas.solid(limb([(0, 2.4), (0.05, 1.2), (0, 0)], [0.4, 0.25, 0.2]), (120, 84, 56))
    if rng.random() < 0.4:
        for y, wide in ((0.9, 1.3), (0.1, 1.05), (-0.7, 0.75)):
            canvas.solid([(-wide, y), (0, y - 1.4), (wide, y)], leaves)
    else:
        for x, y in rng.uniform(-0.75, 0.75, (7, 2)):
            canvas.solid(ellipse(x, y - 0.4, 0.75, 0.65), leaves)


def _flower(canvas: Canvas) -> None:
    rng, colour = canvas.rng, any_colour(canvas.rng)
    canvas.line(curve([(0, 0), (0.15, 1.2), (0, 2.4)]), (80, 140, 70), 0.13)
    for side in (-1, 1):
        canvas.solid(blob([(0.1, 1.8), (side * 0.5, 1.2), (side * 1.0, 1.1), (side * 0.6, 1.6)]), (90, 150, 80))
    count = int(rng.integers(5, 10))
    for turn in range(count):
        with canvas.moved(0, 0, angle=turn * 360 / count):
            canvas.solid(ellipse(0, -0.75, 2.2 / count, 0.55), colour)
    canvas.solid(ellipse(0, 0, 0.4, 0.4), any_colour(rng))


def _mushroom(canvas: Canvas) -> None:
    colour = any_colour(canvas.rng)
    canvas.solid(symmetric([(0, -0.2), (0.35, 0), (0.4, 1.3), (0, 1.5)]), (232, 218, 194))
    cap = symmetric([(0, -1.3), (0.9, -0.9), (1.35, 0.0), (0.6, 0.15), (0, 0.15)])
    canvas.solid(cap, colour)
    spots = canvas.rng.uniform(-1, 1, (7, 2))
    canvas.inside(cap, [ellipse(x, y * 0.6 - 0.5, 0.2, 0.17) for x, y in spots], WHITE)


def _house(canvas: Canvas) -> None:
    rng, wall = canvas.rng, any_colour(canvas.rng)
    high = rng.uniform(0.5, 1.2)
    canvas.solid([(0.5, -high - 0.9), (0.85, -high - 0.9), (0.85, -high), (0.5, -high)], (150, 90, 70))
    canvas.solid([(-1.2, -high), (1.2, -high), (1.2, 1.2), (-1.2, 1.2)], wall)
    canvas.solid([(-1.5, -high), (0, -high - 1.1), (1.5, -high)], any_colour(rng))
    canvas.solid([(-0.3, 1.2), (-0.3, 0.3), (0.25, 0.3), (0.25, 1.2)], any_colour(rng))
    for x in (-0.75, 0.75):
        canvas.fill(_PANE + np.array([x, -0.1]), (190, 216, 232), BLACK)


def _car(canvas: Canvas) -> None:
    rng, colour = canvas.rng, any_colour(canvas.rng)
    roof = rng.uniform(0.6, 1.0)
    canvas.solid([(-1.2, 0), (-0.8, -roof), (0.6, -roof), (1.2, 0)], colour)
    for left, right in ((-0.95, -0.15), (-0.05, 0.85)):
        canvas.fill(
            [(left, -0.05), (left + 0.12, -roof + 0.14), (right - 0.25, -roof + 0.14), (right, -0.05)],
            (190, 216, 232),
            BLACK,
            0.03,
        )
    canvas.solid(
        blob(
            [(-1.9, 0.0), (0, -0.06), (1.7, 0.05), (2.05, 0.5), (1.8, 0.75), (0, 0.75), (-1.9, 0.75), (-2.05, 0.4)]
        ),
        colour,
    )
    for x in (-1.1, 1.1):
        canvas.fill(ellipse(x, 0.75, 0.42, 0.42), BLACK)
        canvas.fill(ellipse(x, 0.75, 0.2, 0.2), (180, 180, 186))
    canvas.fill(ellipse(1.85, 0.3, 0.12, 0.14), (250, 230, 150))


def _boat(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.line([(0, 0.8), (0, -2.0)], (110, 78, 54), 0.12)
    canvas.solid(blob([(0.12, -1.9), (1.0, -0.6), (1.4, 0.3), (0.12, 0.3)]), any_colour(rng))
    canvas.solid([(-0.12, -1.5), (-1.1, 0.3), (-0.12, 0.3)], any_colour(rng))
    canvas.solid([(-1.8, 0.6), (1.9, 0.5), (1.3, 1.4), (-1.2, 1.4)], any_colour(rng))


def _cup(canvas: Canvas) -> None:
    rng, colour = canvas.rng, any_colour(canvas.rng)
    canvas.line(ellipse(1.05, 0.1, 0.5, 0.5), mix(colour, BLACK, 0.2), 0.2)
    body = np.array([(-1.0, -0.9), (1.0, -0.9), (0.8, 1.1), (-0.8, 1.1)])
    canvas.solid(body, colour)
    canvas.inside(body, [ellipse(x, 0.1, 0.22, 0.22) for x in (-0.6, 0, 0.6)], any_colour(rng))
    canvas.fill(ellipse(0, -0.9, 1.0, 0.26), (110, 72, 48), mix(colour, BLACK, 0.4))


def _teapot(canvas: Canvas) -> None:
    colour = any_colour(canvas.rng)
    canvas.line(curve([(-0.9, -0.4), (-1.7, -0.5), (-1.6, 0.5), (-0.9, 0.6)]), mix(colour, BLACK, 0.2), 0.2)
    canvas.solid(limb([(0.8, 0.5), (1.4, 0.1), (1.8, -0.7)], [0.4, 0.2, 0.14]), colour)
    canvas.solid(ellipse(0, 0.2, 1.2, 0.95), colour)
    canvas.solid(ellipse(0, -0.65, 0.65, 0.2), any_colour(canvas.rng))
    canvas.solid(ellipse(0, -0.95, 0.18, 0.18), any_colour(canvas.rng))


def _umbrella(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.line(curve([(0, -0.2), (0, 1.0), (0, 1.7), (0.3, 1.95), (0.5, 1.6)]), (90, 66, 54), 0.12)
    dome = np.array(
        [
            (-1.7, 0.2),
            (-1.3, -0.7),
            (-0.6, -1.25),
            (0, -1.4),
            (0.6, -1.25),
            (1.3, -0.7),
            (1.7, 0.2),
            (0.85, 0.0),
            (0, 0.2),
            (-0.85, 0.0),
        ]
    )
    canvas.solid(dome, any_colour(rng))
    canvas.inside(
        dome, [[(0, -1.4), (-0.85, 0.2), (0, 0.3)], [(0, -1.4), (0.85, 0.2), (1.8, 0.3)]], any_colour(rng)
    )


def _guitar(canvas: Canvas) -> None:
    colour = mix(any_colour(canvas.rng), (180, 120, 60), 0.4)
    canvas.solid(symmetric([(0, -0.3), (0.6, -0.1), (0.5, 0.5), (0.95, 1.2), (0.6, 1.9), (0, 2.0)]), colour)
    canvas.fill(ellipse(0, 0.65, 0.28, 0.28), BLACK)
    canvas.solid([(-0.13, 0.5), (-0.13, -2.0), (0.13, -2.0), (0.13, 0.5)], (92, 64, 50))
    canvas.solid([(-0.25, -2.0), (-0.2, -2.6), (0.2, -2.6), (0.25, -2.0)], (70, 50, 42))
    canvas.line([(-0.35, 1.45), (0.35, 1.45)], BLACK, 0.12)


THINGS: dict[str, Callable[[Canvas], None]] = {
    "boat": _boat,
    "car": _car,
    "cup": _cup,
    "flower": _flower,
    "guitar": _guitar,
    "house": _house,
    "mushroom": _mushroom,
    "teapot": _teapot,
    "tree": _tree,
    "umbrella": _umbrella,
}
