"""Heads of mammals, from the front and from the side, in units of about half a head's width."""

from __future__ import annotations

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
from lightning_transfer.sketches.coats import dress
from lightning_transfer.sketches.features import (
    draw_around_eyes,
    draw_ear,
    draw_eye,
    draw_muzzle,
    draw_whiskers,
)
from lightning_transfer.sketches.traits import Mammal

_BONE: Colour = (222, 208, 176)
_HORN = limb([(0.5, -0.7), (0.8, -1.0), (0.72, -1.45)], [0.16, 0.12, 0.03])
_TUSK = limb([(0.4, 0.6), (0.55, 1.2)], [0.11, 0.03])
_CHEEK = np.array([(0.6, -0.1), (1.15, 0.2), (1.02, 0.36), (1.12, 0.52), (0.5, 0.8)])
_MANE = ellipse(0, 0, 1.5, 1.5) * np.where(np.arange(24) % 2, 1.1, 0.92)[:, None]
_PROFILE_TONGUE = blob([(-0.4, -0.1), (-0.12, -0.1), (-0.1, 0.36), (-0.34, 0.34)])


def draw_face(canvas: Canvas, mammal: Mammal, turn: float) -> None:
    """Draw a head from the front.

    Args:
        canvas: Where to draw.
        mammal: Whose head.
        turn: How far it is turned to one side, from -1 to 1.
    """
    coat, wide, low, jaw = mammal.coat, mammal.width, mammal.length, mammal.jaw
    if "mane" in mammal.extras:
        dress(canvas, _MANE, coat, "ear", coat.second)
    _ears(canvas, mammal, front=False)
    for side in (-1, 1):
        if "horns" in mammal.extras:
            canvas.fill(_HORN * (side, 1), _BONE, BLACK, 0.03)
        if "cheeks" in mammal.extras:
            dress(canvas, _CHEEK * (side * wide, 1), coat, "ear")
    half = [
        (0, -0.92),
        (0.6 * wide, -0.8),
        (0.97 * wide, -0.2),
        (0.96 * wide, 0.22),
        (jaw, 0.72 * low),
        (0.35 * jaw, low),
    ]
    dress(canvas, symmetric([*half, (0.0, 1.03 * low)]), coat, "head")
    if "wool" in mammal.extras:
        for x, y in ((-0.5, -0.72), (0.5, -0.72), (0.0, -0.95)):
            canvas.fill(ellipse(x, y, 0.42, 0.36), coat.light, coat.edge)
    # Parts that stick out more move more when the head turns.
    muzzle_x, muzzle_y = 0.55 * turn, low - mammal.muzzle[1] * 0.92
    eye_y = min(-0.06, muzzle_y - mammal.muzzle[1] * 0.8 - mammal.eye_size * 0.7)
    with canvas.moved(0.3 * turn, eye_y):
        draw_around_eyes(canvas, mammal)
        for side in (-1, 1):
            draw_eye(canvas, mammal, side * mammal.eye_spread * (1 - 0.12 * side * turn), 0.0, side)
    with canvas.moved(muzzle_x, 0 if mammal.nose == "trunk" else muzzle_y):
        if mammal.nose == "trunk":
            for side in (-1, 1):
                canvas.fill(_TUSK * (side, 1), WHITE, coat.edge)
            path = [(0, 0.1), (0.05, 0.9), (0.1, 1.6), (canvas.rng.uniform(-0.7, 0.7), 2.0)]
            dress(canvas, limb(path, [0.36, 0.26, 0.2, 0.17]), coat, "ear")
        else:
            draw_muzzle(canvas, mammal)
    _ears(canvas, mammal, front=True)


def _ears(canvas: Canvas, mammal: Mammal, front: bool) -> None:
    for side in (-1, 1):
        with canvas.moved(0, 0, mirrored=side < 0):
            draw_ear(canvas, mammal, front)


def draw_profile(canvas: Canvas, mammal: Mammal) -> None:
    """Draw a head from the side, looking to the right."""
    coat, reach = mammal.coat, 0.78 + mammal.snout
    low = 0.42 + 0.3 * mammal.muzzle[1]
    if "mane" in mammal.extras:
        dress(canvas, _MANE + np.array([-0.35, 0.05]), coat, "ear", coat.second)
    with canvas.moved(-0.3, -0.06):
        draw_ear(canvas, mammal, front=False, spread=0.85)
    if "horns" in mammal.extras:
        canvas.fill(_HORN + np.array([-0.4, -0.05]), _BONE, BLACK, 0.03)
    skull = [
        (0.6, low + 0.14),
        (0.1, 0.8),
        (-0.6, 0.78),
        (-0.92, 0),
        (-0.65, -0.68),
        (0, -0.92),
        (0.55, -0.66),
        (0.8, -0.16),
    ]
    snout = [(reach - 0.08, 0.0), (reach + 0.06, 0.2), (reach - 0.08, low)]
    outline = blob([*skull, *snout])
    dress(canvas, outline, coat, "neck")
    colour = coat.second if coat.pattern == "points" else coat.light
    canvas.inside(outline, [ellipse(reach, 0.4, 0.3 + 0.6 * mammal.snout, 0.42)], colour)
    if coat.pattern == "tabby":
        canvas.inside(
            outline, [limb([(-0.5, y), (0.1, y + 0.1)], [0.08, 0.02]) for y in (-0.1, 0.25, 0.55)], coat.second
        )
    if "mask" in mammal.extras:
        canvas.inside(outline, [ellipse(0.42, -0.08, 0.5, 0.26, 15)], coat.second)
    draw_eye(canvas, mammal, 0.4, -0.14, narrow=0.75)
    if mammal.nose == "trunk":
        canvas.fill(limb([(0.6, 0.5), (1.2, 0.8), (1.6, 0.5)], [0.12, 0.08, 0.02]), WHITE, coat.edge)
        path = [(0.8, 0.1), (1.3, 0.7), (1.3, 1.5), (1.3 + canvas.rng.uniform(-0.2, 0.8), 1.9)]
        dress(canvas, limb(path, [0.4, 0.3, 0.2, 0.16]), coat, "ear")
    else:
        if mammal.tongue:
            canvas.fill(_PROFILE_TONGUE + np.array([reach, low]), (224, 108, 118), (150, 60, 70), 0.04)
        mouth = [(reach - 0.02, 0.28), (reach - 0.15, low - 0.12), (0.62, low - 0.08)]
        canvas.line(curve(mouth)[::2], mix(coat.base, BLACK, 0.7))
        wide, high = (0.6, 0.9) if mammal.nose == "snout" else (0.9, 0.77)
        size = mammal.nose_size
        canvas.fill(ellipse(reach + 0.02, 0.08, wide * size, high * size), mammal.nose_colour, BLACK, 0.03)
        draw_whiskers(canvas, mammal, reach - 0.3, 0.26, (-1, 1) if mammal.snout < 0.4 else (-1,))
    # A hanging or round ear sits further back; otherwise it would cover the eye.
    back = {"floppy": -1.12, "round": -1.0}.get(mammal.ears, -0.72)
    with canvas.moved(back, 0.0):
        for front in (False, True):
            draw_ear(canvas, mammal, front, spread=0.85)
