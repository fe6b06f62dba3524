"""Ears, eyes, noses, muzzles and whiskers of mammals, in the units of their head."""

from __future__ import annotations

import numpy as np

from lightning_transfer.sketches.canvas import (
    BLACK,
    PINK,
    WHITE,
    Canvas,
    Points,
    blob,
    curve,
    ellipse,
    mix,
    symmetric,
)
from lightning_transfer.sketches.coats import dress
from lightning_transfer.sketches.traits import Mammal

# Right ears, from a root at (0, 0): x grows with the head's width, y with the ear's size.
_EARS: dict[str, Points] = {
    "pointed": np.array([(0.16, -0.25), (0.4, -0.68), (0.78, -1.05), (0.99, -0.37), (1.0, 0.33)]),
    "round": ellipse(0.74, -0.17, 0.46, 0.46),
    "long": ellipse(0.56, -1.0, 0.28, 1.0, 14),
    "sideways": ellipse(1.25, 0.17, 0.55, 0.25, 8),
    "fan": blob([(0.5, -0.05), (1.1, -0.45), (1.8, -0.05), (1.75, 0.75), (1.3, 1.3), (0.8, 0.95)]),
    "folded": np.array([(0.2, -0.31), (0.62, -0.57), (0.95, -0.07), (0.8, 0.13), (0.48, -0.01)]),
    "tipped": np.array([(0.3, -0.2), (0.5, -0.7), (0.98, -0.65), (0.98, 0.25), (0.6, 0.05)]),
    "floppy": blob(
        [(0.5, -0.31), (0.98, -0.17), (1.28, 0.35), (1.24, 1.18), (1.0, 1.36), (0.8, 1.04), (0.74, 0.25)]
    ),
}
_FLAP = np.array([(0.42, -0.72), (1.04, -0.67), (0.97, -0.03)])
_SKINS: dict[str, Points] = {
    "pointed": np.array([(0.33, -0.3), (0.49, -0.58), (0.76, -0.9), (0.87, -0.36), (0.86, 0.1)]),
    "round": ellipse(0.73, -0.13, 0.28, 0.28),
    "long": ellipse(0.56, -0.97, 0.14, 0.75, 14),
    "sideways": ellipse(1.27, 0.2, 0.34, 0.12, 8),
}
_HANGING = ("floppy", "folded", "tipped")

_LENS = np.array([(-1.15, 0.28), (-0.5, -0.55), (0.3, -0.8), (1.2, -0.5), (0.75, 0.4), (-0.2, 0.72)])
_NOSES: dict[str, Points] = {
    "triangle": blob([(-1, -0.4), (0, -0.6), (1, -0.4), (0, 0.7)]),
    "oval": blob([(-1, -0.35), (0, -0.75), (1, -0.35), (0, 0.85)]),
    "snout": ellipse(0, 0, 1.9, 1.35),
}
_BRIDGE = symmetric([(0, -1.25), (0.55, -0.9), (1, -0.05), (0.85, 0.75), (0, 1)])
_TONGUE = blob([(-0.15, 0.5), (0.16, 0.5), (0.2, 1.25), (0.02, 1.45), (-0.16, 1.2)])
_TOOTH = np.array([(-0.1, 0.4), (0.1, 0.4), (0.09, 0.95), (-0.09, 0.95)])
_MASK = symmetric([(0, -0.05), (0.45, -0.28), (0.95, 0.1), (0.6, 0.34), (0, 0.15)])


def draw_ear(canvas: Canvas, mammal: Mammal, front: bool, spread: float = 1.0) -> None:
    """Draw a right ear.

    Args:
        canvas: Where to draw.
        mammal: Whose ear.
        front: Whether to draw what is in front of the head or what is behind it; an ear is one or the other.
        spread: Its width; less than 1 for a head seen from the side.
    """
    if front != (mammal.ears in _HANGING):
        return
    rng, coat = canvas.rng, mammal.coat
    stretch = (mammal.width * mammal.ear_spread * spread, mammal.ear_size * spread * rng.uniform(0.92, 1.08))
    colour = coat.base if coat.pattern == "bib" else coat.tip
    if mammal.ears == "floppy" and colour == coat.base:
        colour = mix(colour, BLACK, 0.22)
    with canvas.moved(0.0, -0.55, angle=rng.normal(0, 4)):
        dress(canvas, _EARS[mammal.ears] * stretch, coat, "ear", colour)
        if mammal.ears in _SKINS:
            canvas.fill(_SKINS[mammal.ears] * stretch, mix(PINK, coat.tip, 0.45))
        if mammal.ears == "tipped":
            canvas.fill(_FLAP * stretch, mix(colour, BLACK, 0.3), coat.edge)


def draw_eye(canvas: Canvas, mammal: Mammal, x: float, y: float, side: int = 1, narrow: float = 1.0) -> None:
    """Draw an eye; side is 1 for the right one, -1 for the left one; narrow is less than 1 for a side view."""
    size = mammal.eye_size
    with canvas.moved(x, y, size):
        look = canvas.rng.uniform(-0.1, 0.1)
        if mammal.eyes == "almond":
            lens = blob(_LENS * (side * narrow, 1.0))
            canvas.fill(lens, mammal.iris, BLACK, 0.05 / size)
            canvas.inside(lens, [ellipse(look, 0, 0.72 * mammal.pupil * narrow, 0.78)], BLACK)
        elif mammal.eyes == "round":
            canvas.fill(ellipse(0, 0, narrow, 1.05), mammal.iris, BLACK, 0.05 / size)
            canvas.fill(ellipse(look, 0, 0.66 * narrow, 0.7), BLACK)
        else:
            canvas.fill(ellipse(0, 0, 0.7 * narrow, 0.75), BLACK)
        canvas.fill(ellipse(-0.3, -0.35, 0.24, 0.24)[::4], WHITE)


def draw_around_eyes(canvas: Canvas, mammal: Mammal) -> None:
    """Draw a mask or dark patches around the eyes, which are at y = 0."""
    if "mask" in mammal.extras:
        canvas.fill(_MASK, mammal.coat.second)
    if "patches" in mammal.extras:
        for side in (-1, 1):
            canvas.fill(ellipse(side * mammal.eye_spread, 0.03, 0.24, 0.32, side * 25), mammal.coat.second)


def draw_whiskers(canvas: Canvas, mammal: Mammal, x: float, y: float, sides: tuple[int, ...] = (-1, 1)) -> None:
    """Draw whiskers on both sides of a point, or on one."""
    if mammal.whiskers <= 0:
        return
    base = mammal.coat.base
    colour = mix(base, WHITE if sum(base) < 480 else BLACK, mammal.whiskers)
    reach = canvas.rng.uniform(0.85, 1.2)
    for side in sides:
        for slope in (-0.22, 0.02, 0.26):
            path = np.array([(0.2, slope * 0.3), (0.65 * reach, slope * 0.7 - 0.04), (1.15 * reach, slope * 1.4)])
            canvas.line(curve(path * (side, 1) + np.array([x, y]))[::2], colour, 0.035)


def draw_muzzle(canvas: Canvas, mammal: Mammal) -> None:
    """Draw muzzle, nose, mouth, tongue and whiskers as seen from the front, around the point (0, 0)."""
    coat, (wide, high) = mammal.coat, mammal.muzzle
    colour = coat.second if coat.pattern == "points" else coat.light
    line = mix(colour, BLACK, 0.75)
    if mammal.tongue:
        canvas.fill(_TONGUE * (1.0, high), (224, 108, 118), (150, 60, 70), 0.04)
    if mammal.snout > 0.6:
        # A long snout points at the viewer: a bridge between the eyes, and one big round muzzle.
        shape = _BRIDGE * (wide, high)
        canvas.fill(shape, colour, mix(colour, BLACK, 0.35), 0.04)
        canvas.shade(shape, mix(colour, BLACK, 0.7), 0.25)
    else:
        canvas.fill(ellipse(0, high * 0.55, wide * 0.55, high * 0.5), colour)
        for side in (-1, 1):
            canvas.fill(ellipse(side * wide * 0.48, high * 0.12, wide * 0.56, high * 0.62), colour)
    nose_y = -high * (0.5 if mammal.snout > 0.6 else 0.42)
    if mammal.nose == "snout":
        canvas.line(curve(np.array([(-0.5, 0.6), (0, 0.75), (0.5, 0.6)]) * mammal.muzzle), line)
    else:
        canvas.line([(0, nose_y), (0, high * 0.32)], line)
        for side in (-1, 1):
            smile = np.array([(0, 0.32), (side * 0.32, 0.56), (side * 0.62, 0.4)])
            canvas.line(curve(smile * mammal.muzzle)[::2], line)
    _nose(canvas, mammal, nose_y)
    if "teeth" in mammal.extras:
        canvas.fill(_TOOTH * (1.0, high), WHITE, line, 0.03)
    draw_whiskers(canvas, mammal, 0, high * 0.05)


def _nose(canvas: Canvas, mammal: Mammal, y: float) -> None:
    size, colour = mammal.nose_size, mammal.nose_colour
    edge = mix(colour, BLACK, 0.5)
    with canvas.moved(0, y, size):
        canvas.fill(_NOSES[mammal.nose], colour, edge, 0.03 / size)
        if mammal.nose == "snout":
            for side in (-1, 1):
                canvas.fill(ellipse(side * 0.7, 0, 0.3, 0.5), edge)
        elif mammal.nose == "oval":
            canvas.fill(ellipse(-0.25, -0.35, 0.3, 0.15)[::4], mix(colour, WHITE, 0.5))
