"""Whole mammals: a head on a body, in one of several poses."""

from __future__ import annotations

import numpy as np

from lightning_transfer.sketches.canvas import BLACK, Canvas, Points, blob, ellipse, limb, mix, symmetric
from lightning_transfer.sketches.coats import dress
from lightning_transfer.sketches.heads import draw_face, draw_profile
from lightning_transfer.sketches.traits import Mammal

POSES = ("portrait", "profile", "sitting", "standing", "lying")
_CHANCES = (0.3, 0.1, 0.25, 0.22, 0.13)

_TAILS: dict[str, tuple[list[tuple[float, float]], list[float]]] = {
    "thin": ([(0.2, 0.1), (-0.8, -0.1), (-1.25, -0.9), (-1.0, -1.7), (-1.3, -2.2)], [0.2, 0.18, 0.16, 0.15, 0.12]),
    "bushy": ([(0.2, 0.0), (-0.6, -0.3), (-1.2, -1.0), (-1.2, -1.8)], [0.18, 0.42, 0.48, 0.08]),
    "plume": ([(0.2, 0.1), (-0.8, 0.1), (-1.1, -0.9), (-0.8, -1.7), (-1.2, -2.1)], [0.2, 0.45, 0.55, 0.5, 0.2]),
    "short": ([(0.3, 0.1), (-0.25, -0.15), (-0.45, -0.45)], [0.2, 0.2, 0.12]),
    "sabre": ([(0.2, 0.0), (-0.45, -0.4), (-0.75, -1.0), (-0.6, -1.6)], [0.24, 0.22, 0.18, 0.06]),
    "curled": ([(0.3, 0.1), (-0.3, -0.5), (-0.1, -1.1), (0.4, -0.9), (0.25, -0.5)], [0.2, 0.22, 0.22, 0.18, 0.08]),
    "tufted": ([(0.2, 0.0), (-0.4, 0.3), (-0.6, 1.0), (-0.8, 1.5)], [0.12, 0.09, 0.08, 0.07]),
}


def draw_mammal(canvas: Canvas, mammal: Mammal, pose: str | None = None) -> None:
    """Draw a mammal.

    Args:
        canvas: Where to draw.
        mammal: What it looks like.
        pose: One of POSES; None for any.
    """
    pose = pose or POSES[int(canvas.rng.choice(len(POSES), p=_CHANCES))]
    match pose:
        case "portrait" | "profile":
            _portrait(canvas, mammal, pose == "profile")
        case "sitting":
            _sitting(canvas, mammal)
        case "standing":
            _standing(canvas, mammal)
        case _:
            _lying(canvas, mammal)


def _head(canvas: Canvas, mammal: Mammal, x: float, y: float, profile: bool = False) -> None:
    rng = canvas.rng
    with canvas.moved(x, y, mammal.head * rng.uniform(0.92, 1.12), rng.normal(0, 9)):
        if profile:
            draw_profile(canvas, mammal)
        else:
            draw_face(canvas, mammal, rng.uniform(-0.6, 0.6))


def _tail(canvas: Canvas, mammal: Mammal, x: float, y: float, angle: float = 0.0, mirrored: bool = False) -> None:
    if mammal.tail not in _TAILS:
        return
    path, widths = _TAILS[mammal.tail]
    coat = mammal.coat
    points = np.array(path) * canvas.rng.uniform(0.85, 1.15, (len(path), 2))
    with canvas.moved(x, y, 1.0, angle, mirrored):
        dress(canvas, limb(points, widths), coat, "tail", coat.tip if coat.pattern == "points" else None)
        if mammal.tail == "tufted":
            canvas.fill(ellipse(points[-1, 0], points[-1, 1], 0.2, 0.3, 20), coat.second, coat.edge)


def _leg(canvas: Canvas, mammal: Mammal, path: list[tuple[float, float]], thick: float, far: bool = False) -> None:
    """Draw a leg, with a foot at the path's end."""
    coat = mammal.coat
    colour = mix(coat.base, BLACK, 0.22) if far else coat.base
    foot = mix(coat.tip, BLACK, 0.22) if far else coat.tip
    dress(canvas, limb(path, [thick * 1.25, thick, thick * 0.9]), coat, "limb", colour)
    x, y = path[-1]
    canvas.fill(ellipse(x + 0.08, y + 0.02, thick * 1.25, thick * 0.75), foot, coat.edge)
    if not far:
        for toe in (-0.3, 0.3):
            canvas.line(
                [(x + 0.12 + toe * thick, y - 0.02), (x + 0.14 + toe * thick, y + thick * 0.6)], coat.edge, 0.035
            )


def _body(canvas: Canvas, mammal: Mammal, outline: Points) -> None:
    coat = mammal.coat
    if "wool" in mammal.extras:
        middle = outline.mean(axis=0)
        puffs = [ellipse(x, y, 0.42, 0.38) for x, y in (outline[::3] - middle) * 0.86 + middle]
        for puff in puffs:
            canvas.fill(puff, coat.light, mix(coat.light, BLACK, 0.4))
        canvas.fill((outline - middle) * 0.9 + middle, coat.light)
        curls = canvas.rng.uniform(-0.7, 0.7, (9, 2)) * (outline.max(axis=0) - outline.min(axis=0)) / 2 + middle
        canvas.inside(
            outline, [ellipse(x, y, 0.2, 0.16)[:16] for x, y in curls], mix(coat.light, BLACK, 0.3), 0.7, 0.05
        )
        return
    dress(canvas, outline, coat)


def _portrait(canvas: Canvas, mammal: Mammal, profile: bool) -> None:
    rng, wide = canvas.rng, mammal.girth * mammal.width
    x = -0.5 if profile else rng.uniform(-0.2, 0.2)
    low = 1.6 + rng.uniform(0, 0.9)
    half = [
        (0.0, 0.2),
        (0.62 * wide, 0.6),
        (0.95 * wide, 1.2),
        (1.15 * wide, low),
        (0.7 * wide, low + 0.25),
        (0.0, low + 0.25),
    ]
    chest = symmetric(half) + np.array([x, 0.0])
    _body(canvas, mammal, chest)
    if mammal.coat.pattern in ("bib", "plain"):
        canvas.inside(chest, [ellipse(x, low, 0.5 * wide, 0.8)], mammal.coat.light, 0.8)
    with canvas.moved(0, 0, 1 / mammal.head):
        _head(canvas, mammal, 0, 0, profile)


def _sitting(canvas: Canvas, mammal: Mammal) -> None:
    rng, g = canvas.rng, mammal.girth
    low = 2.55 + 0.35 * mammal.legs
    side = 1 if rng.random() < 0.5 else -1
    _tail(canvas, mammal, -0.8 * side * g, low - 0.45, rng.uniform(-15, 15), side < 0)
    shape = [
        (0.0, 0.4),
        (0.62 * g, 0.75),
        (0.9 * g, 0.5 * low),
        (1.2 * g, low - 0.55),
        (0.95 * g, low),
        (0.0, low + 0.05),
    ]
    body = symmetric(shape)
    _body(canvas, mammal, body)
    if mammal.coat.pattern in ("bib", "plain", "tabby"):
        canvas.inside(body, [ellipse(0, 1.35, 0.48 * g, 0.75)], mammal.coat.light, 0.85)
    for end in (-1, 1):
        haunch = ellipse(end * 0.98 * g, low - 0.42, 0.44 * g, 0.55, end * -12)
        dress(canvas, haunch, mammal.coat, "limb")
        canvas.fill(ellipse(end * 1.12 * g, low + 0.08, 0.38, 0.19), mammal.coat.tip, mammal.coat.edge)
    for end in (-1, 1):
        _leg(
            canvas,
            mammal,
            [(end * 0.36 * g, 1.5), (end * 0.4 * g, 0.5 * low + 0.8), (end * 0.38 * g, low + 0.08)],
            0.26,
        )
    _head(canvas, mammal, rng.uniform(-0.25, 0.25), 0, rng.random() < 0.2)


def _standing(canvas: Canvas, mammal: Mammal) -> None:
    rng, g, long = canvas.rng, mammal.girth, mammal.legs
    foot, stride = 0.45 + long, rng.uniform(-0.5, 0.5)
    for x, swing in ((-1.45, -stride), (1.1, stride)):
        _leg(
            canvas,
            mammal,
            [(x, 0.1), (x + 0.12 * swing, 0.3 + long * 0.5), (x + swing, foot - 0.08)],
            0.25,
            far=True,
        )
    _tail(canvas, mammal, -1.85, -0.25 * g, rng.uniform(-30, 25))
    raised = rng.uniform(0.7, 1.5)
    neck = limb([(0.95, 0.0), (1.4, -0.5 * raised), (1.75, -0.9 * raised)], [0.6 * g, 0.52, 0.5])
    dress(canvas, neck, mammal.coat, "neck")
    path = [
        (-2.05, 0.1),
        (-1.7, -0.6 * g),
        (-0.3, -0.58 * g),
        (1.0, -0.75 * g),
        (1.6, -0.2),
        (1.35, 0.6 * g),
        (-0.2, 0.6 * g),
        (-1.6, 0.6 * g),
    ]
    _body(canvas, mammal, blob(path))
    if "udder" in mammal.extras:
        canvas.fill(ellipse(-1.0, 0.65 * g, 0.4, 0.25), (232, 170, 170), BLACK, 0.03)
    for x, swing in ((-1.6, stride), (1.0, -stride)):
        _leg(canvas, mammal, [(x, 0.05), (x - 0.12 * swing, 0.3 + long * 0.5), (x + swing, foot)], 0.27)
    _head(canvas, mammal, 1.95, -raised, rng.random() < 0.5)


def _lying(canvas: Canvas, mammal: Mammal) -> None:
    rng, g, coat = canvas.rng, mammal.girth, mammal.coat
    height = rng.uniform(-0.5, 0.35)
    curled = rng.random() < 0.5
    if not curled:
        _tail(canvas, mammal, -1.7, 0.9, rng.uniform(-60, 20))
    body = blob(
        [
            (-2.1, 0.8),
            (-1.6, -0.15 * g),
            (-0.3, -0.45 * g),
            (1.0, -0.1),
            (1.7, 0.7),
            (1.4, 1.35),
            (-0.4, 1.5),
            (-1.7, 1.4),
        ]
    )
    _body(canvas, mammal, body)
    dress(canvas, ellipse(-1.15, 0.8, 0.72, 0.62 * g, -15), coat, "limb")
    canvas.fill(ellipse(-0.55, 1.42, 0.42, 0.2), coat.tip, coat.edge)
    if curled and mammal.tail in _TAILS and mammal.tail not in ("short", "curled"):
        thick = max(_TAILS[mammal.tail][1])
        dress(
            canvas,
            limb([(-1.9, 1.0), (-1.3, 1.5), (-0.2, 1.62), (0.6, 1.45)], [thick, thick, thick, 0.1]),
            coat,
            "tail",
        )
    for x in (0.9, 1.5):
        _leg(canvas, mammal, [(x, 0.7), (x + 0.35, 1.2), (x + 0.8, 1.45)], 0.25)
    _head(canvas, mammal, 1.35, height, rng.random() < 0.2)
