"""Coats: colours and patterns of fur, the same for every animal, so that a coat does not reveal the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_transfer.sketches.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Colour,
    Points,
    blob,
    ellipse,
    fuzzy,
    limb,
    mix,
)

PALETTE: dict[str, Colour] = {
    "black": (58, 54, 58),
    "white": (236, 231, 222),
    "gray": (142, 142, 148),
    "slate": (98, 106, 120),
    "ginger": (216, 136, 66),
    "brown": (134, 92, 62),
    "chocolate": (92, 64, 52),
    "fawn": (196, 160, 118),
    "cream": (232, 208, 168),
}
PATTERNS = ("plain", "tabby", "patched", "spots", "points", "bib")
# On a part whose bounding box is -1 to 1; made once, since curves take time.
_STRIPES: dict[str, list[Points]] = {
    "head": [limb([(x, -1.05), (x * 0.8, -0.5)], [0.09, 0.03]) for x in (-0.36, 0.0, 0.36)]
    + [limb([(x, y), (x * 0.57, y + 0.05)], [0.07, 0.02]) for x in (-1.05, 1.05) for y in (0.1, 0.36)],
    "body": [
        limb([(x, -1.15), (x + 0.1, -0.3), (x, 0.35)], [0.09, 0.07, 0.01]) for x in (-0.8, -0.4, 0.0, 0.4, 0.8)
    ],
    "tail": [limb([(x - 0.3, x - 0.3), (x + 0.3, x - 0.9)], [0.07, 0.07]) for x in (-0.5, -0.1, 0.3, 0.7, 1.1)],
    "limb": [limb([(-1.2, y), (1.2, y + 0.05)], [0.05, 0.04]) for y in (-0.45, 0.25, 0.75)],
}


@dataclass(frozen=True)
class Coat:
    """Colours and pattern of an animal's fur.

    Args:
        base: Its main colour.
        second: Stripes, spots, patches, or the tips of legs, ears and tail.
        light: Muzzle and chest.
        pattern: One of PATTERNS.
        shag: How far the fur sticks out, in head radii.
    """

    base: Colour
    second: Colour
    light: Colour
    pattern: str = "plain"
    shag: float = 0.04

    @property
    def edge(self) -> Colour:
        """Return the colour of outlines."""
        return mix(self.base, BLACK, 0.55)

    @property
    def tip(self) -> Colour:
        """Return the colour of ears, feet and the end of the tail."""
        if self.pattern == "points":
            return self.second
        return self.light if self.pattern == "bib" else self.base


def any_coat(rng: np.random.Generator, *names: str, pattern: str | None = None) -> Coat:
    """Draw a random coat.

    Args:
        rng: Source of randomness.
        names: Colours in PALETTE to choose the base from; all if empty.
        pattern: One of PATTERNS; None for any.
    """
    colours = names or tuple(PALETTE)
    base = PALETTE[colours[int(rng.integers(len(colours)))]]
    base = _tinted(base, rng)
    others = tuple(PALETTE.values())
    second = _tinted(others[int(rng.integers(len(others)))], rng)
    if abs(sum(base) - sum(second)) < 110:
        second = mix(base, BLACK if sum(base) > 330 else WHITE, 0.5)
    pattern = pattern or PATTERNS[int(rng.integers(len(PATTERNS)))]
    if pattern == "tabby":
        second = mix(base, BLACK if sum(base) > 260 else WHITE, 0.45)
    light = mix(base, WHITE, 0.8 if pattern == "bib" else rng.uniform(0.12, 0.6))
    return Coat(base, second, light, pattern, rng.uniform(0.0, 0.09))


def _tinted(colour: Colour, rng: np.random.Generator) -> Colour:
    changes = rng.normal(0, 5, 3) + rng.normal(0, 9)
    red, green, blue = (
        int(np.clip(value + change, 20, 245)) for value, change in zip(colour, changes, strict=True)
    )
    return red, green, blue


def dress(canvas: Canvas, outline: Points, coat: Coat, part: str = "body", colour: Colour | None = None) -> None:
    """Draw a part of an animal with its fur.

    Args:
        canvas: Where to draw.
        outline: The part's outline.
        coat: Colours and pattern.
        part: "body", "head", "ear", "neck", "limb" or "tail", which differ in their marks.
        colour: Used instead of the coat's base colour.
    """
    rng, base = canvas.rng, colour or coat.base
    furry = fuzzy(outline, coat.shag, rng) if coat.shag > 0.02 else outline
    canvas.fill(furry, base, coat.edge)
    least, greatest = outline.min(axis=0), outline.max(axis=0)
    middle, half = (least + greatest) / 2, (greatest - least) / 2
    shapes = _marks(coat.pattern, part, rng)
    if shapes:
        canvas.inside(furry, [shape * half + middle for shape in shapes], coat.second)
    if part in ("body", "head"):
        count = int(rng.integers(6, 14))
        starts = rng.uniform(-0.85, 0.85, (count, 2))
        hairs = [
            np.array([start, start * (1.06, 1.0) + np.array([0.0, 0.13])]) * half + middle for start in starts
        ]
        canvas.inside(furry, hairs, mix(base, BLACK if sum(base) > 300 else WHITE, 0.3), 0.55, 0.045)
    if part != "limb":
        canvas.shade(furry, mix(base, (30, 20, 40), 0.75), 0.3)


def _marks(pattern: str, part: str, rng: np.random.Generator) -> list[Points]:
    """Return a pattern's marks on a part whose bounding box is -1 to 1."""
    if pattern == "tabby":
        if part == "head":
            return _STRIPES["head"]
        shift = np.array([rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)])
        return [stripe + shift for stripe in _STRIPES.get(part, _STRIPES["limb"])]
    if pattern == "patched" and part != "limb":
        return [_patch(rng.uniform(-1, 1), rng.uniform(-1, 0.6), rng) for _ in range(int(rng.integers(1, 4)))]
    if pattern == "spots" and part != "tail":
        places = rng.uniform(-0.95, 0.95, (14 if part == "body" else 6, 2))
        return [
            ellipse(x, y, radius, radius * 0.9)[::3]
            for (x, y), radius in zip(places, rng.uniform(0.05, 0.13, 14), strict=False)
        ]
    if pattern == "points" and part in ("head", "limb", "tail"):
        if part == "head":
            return [ellipse(0, 0.35, 0.5, 0.6)]
        return [ellipse(0, 1.0, 2.0, 1.0)]
    if pattern == "bib" and part == "head":
        return [limb([(0, -1.1), (0, 0.1)], [0.07, 0.16])] if rng.random() < 0.6 else []
    return []


def _patch(x: float, y: float, rng: np.random.Generator) -> Points:
    angles = np.arange(6) * (2 * np.pi / 6)
    radii = rng.uniform(0.35, 0.75, 6)
    return blob(np.column_stack([x + radii * np.cos(angles), y + radii * np.sin(angles)]))
