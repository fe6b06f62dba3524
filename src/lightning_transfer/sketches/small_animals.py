"""Birds, fish, insects and the like, each drawn with a few strokes in its own units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lightning_transfer.sketches.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Colour,
    blob,
    curve,
    ellipse,
    limb,
    mix,
    symmetric,
)
from lightning_transfer.sketches.coats import any_coat, dress
from lightning_transfer.sketches.scene import any_colour

_BEAK: Colour = (236, 170, 60)


def _eyes(canvas: Canvas, *places: tuple[float, float], size: float = 0.15) -> None:
    for x, y in places:
        canvas.fill(ellipse(x, y, size, size), WHITE, BLACK, 0.03)
        canvas.fill(ellipse(x + 0.2 * size, y, size * 0.6, size * 0.6), BLACK)


def _owl(canvas: Canvas) -> None:
    coat = any_coat(canvas.rng)
    for side in (-1, 1):
        canvas.fill(limb([(side * 0.3, 1.9), (side * 0.35, 2.2)], [0.14, 0.1]), _BEAK, BLACK)
    dress(canvas, symmetric([(0, -0.75), (0.75, -1.15), (0.95, -0.3), (1.05, 0.8), (0.7, 1.8), (0, 2.0)]), coat)
    canvas.fill(ellipse(0, 1.1, 0.6, 0.8), coat.light)
    for side in (-1, 1):
        dress(
            canvas,
            blob([(side * 0.9, 0.1), (side * 1.3, 1.0), (side * 0.85, 1.7), (side * 0.7, 0.8)]),
            coat,
            "limb",
        )
        canvas.fill(ellipse(side * 0.43, -0.3, 0.42, 0.42), coat.light, coat.edge)
        canvas.fill(ellipse(side * 0.43, -0.3, 0.25, 0.25), (230, 180, 60))
        canvas.fill(ellipse(side * 0.43, -0.3, 0.15, 0.15), BLACK)
    canvas.fill([(-0.13, -0.1), (0.13, -0.1), (0, 0.25)], _BEAK, BLACK, 0.03)


def _duck(canvas: Canvas) -> None:
    coat = any_coat(canvas.rng)
    for x in (-0.3, 0.3):
        canvas.fill(limb([(x, 1.1), (x, 1.7), (x + 0.3, 1.75)], [0.07, 0.07, 0.1]), _BEAK, BLACK, 0.03)
    dress(
        canvas,
        blob([(-2.0, -0.4), (-0.9, 0.0), (0.3, -0.2), (1.1, 0.2), (0.9, 1.0), (-0.4, 1.3), (-1.5, 0.8)]),
        coat,
    )
    dress(canvas, limb([(0.8, 0.4), (1.0, -0.4), (1.1, -0.9)], [0.5, 0.32, 0.35]), coat, "ear")
    canvas.fill(blob([(1.4, -1.15), (2.1, -0.9), (2.1, -0.72), (1.4, -0.7)]), _BEAK, BLACK)
    dress(canvas, ellipse(1.1, -1.0, 0.52, 0.48), coat, "ear")
    dress(canvas, blob([(-1.3, 0.1), (-0.2, 0.2), (0.4, 0.5), (-0.4, 0.8)]), coat, "limb", coat.light)
    _eyes(canvas, (1.25, -1.1), size=0.11)


def _chick(canvas: Canvas) -> None:
    coat = any_coat(canvas.rng)
    for x in (-0.3, 0.35):
        canvas.line([(x, 1.0), (x, 1.6), (x + 0.25, 1.6)], _BEAK, 0.1)
    dress(canvas, ellipse(0, 0.4, 1.0, 0.85), coat)
    dress(canvas, ellipse(0.35, -0.65, 0.62, 0.6), coat, "head")
    canvas.fill([(0.9, -0.8), (1.3, -0.6), (0.9, -0.45)], _BEAK, BLACK, 0.03)
    dress(canvas, ellipse(-0.35, 0.4, 0.5, 0.32, -20), coat, "limb", coat.light)
    canvas.fill(limb([(0.3, -1.2), (0.15, -1.5)], [0.08, 0.04]), (210, 60, 50))
    _eyes(canvas, (0.55, -0.75), size=0.1)


def _fish(canvas: Canvas) -> None:
    colour, fin = any_colour(canvas.rng), any_colour(canvas.rng)
    canvas.solid([(-1.1, 0), (-2.0, -0.8), (-1.75, 0), (-2.0, 0.8)], fin)
    canvas.solid(blob([(-0.6, -0.6), (0.0, -1.2), (0.6, -0.7), (0, -0.4)]), fin)
    body = blob([(-1.3, 0), (-0.4, -0.75), (0.7, -0.65), (1.4, 0), (0.7, 0.6), (-0.4, 0.7)])
    canvas.solid(body, colour)
    canvas.inside(
        body, [limb([(x, -1), (x + 0.15, 0), (x, 1)], [0.12, 0.14, 0.1]) for x in (-0.7, -0.2, 0.3)], fin
    )
    _eyes(canvas, (0.85, -0.2))
    canvas.line(curve([(1.3, 0.15), (1.0, 0.25)]), BLACK)


def _whale(canvas: Canvas) -> None:
    colour = mix(any_colour(canvas.rng), (70, 100, 140), 0.4)
    canvas.solid(blob([(-1.8, -0.4), (-2.5, -1.3), (-1.9, -1.0), (-1.4, -1.4), (-1.5, -0.3)]), colour)
    body = blob(
        [(-2.0, -0.4), (-0.8, -0.1), (0.4, -0.8), (1.6, -0.6), (1.9, 0.2), (1.2, 0.8), (-0.6, 0.8), (-1.6, 0.3)]
    )
    canvas.solid(body, colour)
    canvas.inside(body, [ellipse(0.6, 1.0, 1.6, 0.55)], WHITE, 0.85)
    canvas.solid(blob([(0.1, 0.5), (0.5, 0.6), (-0.1, 1.3)]), colour)
    _eyes(canvas, (1.15, 0.0), size=0.1)
    for side in (-1, 1):
        canvas.line(curve([(0.9, -0.8), (0.9 + side * 0.15, -1.3), (0.9 + side * 0.5, -1.4)]), WHITE, 0.08)


def _snake(canvas: Canvas) -> None:
    rng, colour = canvas.rng, any_colour(canvas.rng)
    heights = rng.uniform(0.3, 0.9) * np.array([0, 1, -1, 1, -0.6, -1.6])
    path = np.column_stack([np.linspace(-2.2, 1.8, 6), heights])
    body = limb(path, [0.05, 0.22, 0.3, 0.3, 0.26, 0.2])
    canvas.solid(body, colour)
    canvas.inside(body, [ellipse(x, y, 0.14, 0.2) for x, y in curve(path)[::2]], mix(colour, BLACK, 0.5))
    x, y = float(path[-1, 0]), float(path[-1, 1])
    canvas.line([(x + 0.4, y), (x + 0.85, y + 0.05)], (210, 50, 60), 0.06)
    canvas.solid(ellipse(x + 0.1, y, 0.42, 0.28), colour)
    _eyes(canvas, (x + 0.2, y - 0.1), size=0.09)


def _turtle(canvas: Canvas) -> None:
    skin, shell = mix(any_colour(canvas.rng), (90, 140, 80), 0.5), any_colour(canvas.rng)
    for x in (-1.0, 0.8):
        canvas.solid(limb([(x, 0.4), (x + 0.1, 1.0)], [0.3, 0.26]), skin)
    canvas.solid(limb([(1.0, 0.3), (1.7, -0.1), (1.95, -0.3)], [0.28, 0.26, 0.38]), skin)
    canvas.solid([(-1.3, 0.3), (-1.9, 0.6), (-1.3, 0.6)], skin)
    dome = blob([(-1.5, 0.5), (-1.2, -0.5), (0, -1.1), (1.1, -0.5), (1.4, 0.5), (0, 0.7)])
    canvas.solid(dome, shell)
    plates = [ellipse(x, y, 0.33, 0.28)[::5] for x, y in ((-0.8, 0.1), (0, -0.6), (0, 0.2), (0.75, 0.05))]
    canvas.inside(dome, plates, mix(shell, BLACK, 0.35))
    _eyes(canvas, (2.05, -0.4), size=0.1)


def _frog(canvas: Canvas) -> None:
    colour = mix(any_colour(canvas.rng), (90, 160, 70), 0.45)
    for side in (-1, 1):
        canvas.solid(ellipse(side * 1.05, 1.0, 0.65, 0.4, side * -25), colour)
        canvas.solid(ellipse(side * 0.5, 1.35, 0.4, 0.16), colour)
        canvas.solid(ellipse(side * 0.55, -0.75, 0.36, 0.36), colour)
    canvas.solid(symmetric([(0, -0.7), (0.8, -0.5), (1.1, 0.1), (0.8, 1.1), (0, 1.35)]), colour)
    canvas.fill(ellipse(0, 0.75, 0.6, 0.5), mix(colour, WHITE, 0.55))
    _eyes(canvas, (-0.55, -0.8), (0.55, -0.8), size=0.22)
    canvas.line(curve([(-0.75, 0.0), (0, 0.25), (0.75, 0.0)]), BLACK, 0.06)


def _butterfly(canvas: Canvas) -> None:
    first, second, rng = any_colour(canvas.rng), any_colour(canvas.rng), canvas.rng
    high, low = rng.uniform(0.9, 1.5), rng.uniform(0.6, 1.2)
    for side in (-1, 1):
        upper = blob([(side * 0.1, 0), (side * 0.6, -high), (side * 1.6, -high * 1.05), (side * 1.4, -0.1)])
        canvas.solid(upper, first)
        canvas.solid(
            blob([(side * 0.1, 0), (side * 1.1, 0.1), (side * 1.1, low), (side * 0.4, low * 1.1)]), second
        )
        canvas.inside(
            upper, [ellipse(side * 1.0, -high * 0.6, 0.3, 0.3), ellipse(side * 1.4, -high * 0.9, 0.2, 0.2)], second
        )
        canvas.line(curve([(0, -0.5), (side * 0.2, -1.1), (side * 0.5, -1.3)]), BLACK, 0.05)
    canvas.fill(ellipse(0, 0.1, 0.14, 0.75), (60, 44, 40))


def _bee(canvas: Canvas) -> None:
    for angle in (-35, 5):
        canvas.fill(ellipse(-0.2 + angle / 90, -0.9, 0.35, 0.75, angle), (214, 226, 236), BLACK, 0.03)
    body = ellipse(0, 0, 1.2, 0.75)
    canvas.fill([(-1.1, -0.2), (-1.5, 0.05), (-1.1, 0.2)], BLACK)
    canvas.solid(body, mix((240, 190, 50), any_colour(canvas.rng), 0.3))
    canvas.inside(body, [limb([(x, -1), (x + 0.1, 1)], [0.15, 0.15]) for x in (-0.75, -0.2, 0.35)], BLACK)
    _eyes(canvas, (0.85, -0.15))
    canvas.line(curve([(0.9, -0.5), (1.1, -1.0), (1.4, -1.1)]), BLACK, 0.06)


def _spider(canvas: Canvas) -> None:
    colour = mix(any_colour(canvas.rng), BLACK, 0.5)
    for side in (-1, 1):
        for y, reach in ((-0.7, -1.0), (-0.25, -0.4), (0.25, 0.4), (0.7, 1.1)):
            knee = (side * 1.0, y - 0.4)
            canvas.line(curve([(0, y * 0.3), knee, (side * 1.7, reach + 0.4)]), colour, 0.1)
    canvas.solid(ellipse(0, 0.5, 0.75, 0.85), colour)
    canvas.solid(ellipse(0, -0.5, 0.48, 0.42), colour)
    _eyes(canvas, (-0.17, -0.6), (0.17, -0.6), size=0.12)


def _snail(canvas: Canvas) -> None:
    skin, shell = mix(any_colour(canvas.rng), (210, 180, 140), 0.5), any_colour(canvas.rng)
    for x in (1.3, 1.6):
        canvas.line([(1.3, 0.2), (x, -0.7)], skin, 0.1)
    canvas.solid(limb([(-1.9, 0.95), (-0.4, 0.85), (0.9, 0.8), (1.4, 0.1)], [0.05, 0.25, 0.3, 0.28]), skin)
    canvas.solid(ellipse(-0.2, -0.1, 1.0, 0.95), shell)
    turns = np.linspace(0, 14, 40)
    spiral = np.column_stack([np.cos(turns), np.sin(turns)]) * (0.88 * (1 - turns / 14))[:, None] + (-0.2, -0.1)
    canvas.line(spiral, mix(shell, BLACK, 0.5), 0.09)
    _eyes(canvas, (1.3, -0.7), (1.6, -0.7), size=0.12)


def _crab(canvas: Canvas) -> None:
    colour = mix(any_colour(canvas.rng), (210, 80, 50), 0.4)
    for side in (-1, 1):
        for y in (0.2, 0.5, 0.8):
            canvas.line(curve([(side * 0.7, y * 0.6), (side * 1.5, y * 0.6), (side * 1.7, y + 0.5)]), colour, 0.12)
        canvas.line(curve([(side * 0.8, 0), (side * 1.5, -0.3), (side * 1.5, -0.8)]), colour, 0.2)
        canvas.solid(
            blob(
                [
                    (side * 1.5, -0.7),
                    (side * 1.9, -1.2),
                    (side * 1.5, -1.0),
                    (side * 1.3, -1.5),
                    (side * 1.1, -1.0),
                ]
            ),
            colour,
        )
        canvas.line([(side * 0.3, -0.4), (side * 0.35, -0.85)], colour, 0.1)
    canvas.solid(ellipse(0, 0.2, 1.1, 0.75), colour)
    _eyes(canvas, (-0.35, -0.9), (0.35, -0.9))
    canvas.line(curve([(-0.4, 0.35), (0, 0.5), (0.4, 0.35)]), BLACK, 0.06)


SMALL_ANIMALS: dict[str, Callable[[Canvas], None]] = {
    "bee": _bee,
    "butterfly": _butterfly,
    "chick": _chick,
    "crab": _crab,
    "duck": _duck,
    "fish": _fish,
    "frog": _frog,
    "owl": _owl,
    "snail": _snail,
    "snake": _snake,
    "spider": _spider,
    "turtle": _turtle,
    "whale": _whale,
}
