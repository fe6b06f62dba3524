"""A canvas that records what is drawn on it, and paints it later at any place and size.

Drawing code uses its own units (y points down). Once everything is drawn, the extent is known, and the subject can
be placed in the frame the same way for every class, so that neither place nor size reveals the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]
Points = NDArray[np.float64]
Path = Points | Sequence[tuple[float, float]]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels
Sketcher = Callable[[np.random.Generator, int], tuple[Image.Image, Box]]  # draws an image of a given size

BLACK: Colour = (28, 25, 27)
WHITE: Colour = (244, 240, 234)
PINK: Colour = (226, 148, 150)

_STEPS = 4
_TIMES = np.arange(_STEPS)[:, None] / _STEPS
# Catmull-Rom: the curve passes through its points, so outlines are written as such points.
_SPLINE = np.hstack([_TIMES**0, _TIMES, _TIMES**2, _TIMES**3]) @ (
    np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
)
_ANGLES = np.arange(24) * (2 * math.pi / 24)
_CIRCLE = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])
_CAP = np.linspace(0, math.pi, 6)[1:-1]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours; with share=1 the result is the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ellipse(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Points:
    """Return the outline of an ellipse with these half axes, rotated by an angle in degrees."""
    points = _CIRCLE * (width, height)
    if angle:
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        points = points @ np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(points + np.array([x, y]))


def blob(path: Path) -> Points:
    """Return a smooth closed curve through the points."""
    points = np.asarray(path, dtype=np.float64)
    around = np.concatenate([points[-1:], points, points[:2]])
    return _through(around)


def curve(path: Path) -> Points:
    """Return a smooth open curve through the points."""
    points = np.asarray(path, dtype=np.float64)
    around = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    return np.concatenate([_through(around), points[-1:]])


def _through(around: Points) -> Points:
    count = len(around) - 3
    windows = around[np.arange(count)[:, None] + np.arange(4)]
    return np.asarray(_SPLINE @ windows).reshape(-1, 2)


def symmetric(half: Path) -> Points:
    """Return a smooth closed curve from its right half, given from top to bottom."""
    right = np.asarray(half, dtype=np.float64)
    left = right[::-1] * (-1, 1)
    inner = left[np.abs(left[:, 0]) > 1e-9]
    return blob(np.concatenate([right, inner]))


def limb(path: Path, widths: Sequence[float]) -> Points:
    """Return the outline of a smooth line with round ends, whose half width changes from point to point."""
    points = curve(path)
    steps = np.diff(points, axis=0)
    along = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    along /= np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-9
    across = along[:, ::-1] * (-1, 1)
    half = np.interp(np.linspace(0, len(widths) - 1, len(points)), np.arange(len(widths)), widths)[:, None]
    tip = points[-1] + half[-1] * (np.cos(_CAP)[:, None] * across[-1] + np.sin(_CAP)[:, None] * along[-1])
    root = points[0] + half[0] * (-np.cos(_CAP)[:, None] * across[0] - np.sin(_CAP)[:, None] * along[0])
    return np.concatenate([points + half * across, tip, (points - half * across)[::-1], root])


def fuzzy(outline: Points, amount: float, rng: np.random.Generator) -> Points:
    """Make an outline furry: points stick out by up to `amount`."""
    around = np.concatenate([outline[-1:], outline, outline[:1]])
    steps = around[2:] - around[:-2]
    across = steps[:, ::-1] * (1, -1) / (np.hypot(steps[:, 0], steps[:, 1])[:, None] + 1e-9)
    lengths = rng.uniform(-0.35, 1.0, (len(outline), 1)) * amount
    lengths[::2] *= -0.2
    return np.asarray(outline + across * lengths)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A filled shape, or an open line if it has a width."""

    points: Points
    colour: Colour
    width: float = 0.0
    edge: Colour | None = None
    edge_width: float = 0.0

    def paint(self, draw: ImageDraw.ImageDraw, matrix: Points, offset: Points) -> None:
        pixels = (self.points @ matrix + offset).ravel().tolist()
        scale = math.hypot(matrix[0, 0], matrix[0, 1])
        if self.width:
            draw.line(pixels, fill=self.colour, width=max(1, round(self.width * scale)))
            return
        draw.polygon(pixels, fill=self.colour)
        if self.edge is not None:
            draw.line(pixels + pixels[:4], fill=self.edge, width=max(2, round(self.edge_width * scale)))


@dataclass(frozen=True, slots=True)
class _Inside:
    """Marks that are painted only inside an outline, more or less opaque."""

    outline: Points
    marks: list[_Mark]
    opacity: float


class Canvas:
    """What was drawn, in the drawing code's units.

    Args:
        rng: Source of all randomness in the drawing.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._steps: list[_Mark | _Inside] = []
        self._matrix: Points = np.eye(2)
        self._offset: Points = np.zeros(2)
        self._scale = 1.0

    @contextmanager
    def moved(
        self, x: float, y: float, scale: float = 1.0, angle: float = 0.0, mirrored: bool = False
    ) -> Iterator[None]:
        """Draw a part in its own units, whose origin is a point of the current units."""
        before = self._matrix, self._offset, self._scale
        cosine, sine = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
        inner = np.array([[cosine, sine], [-sine, cosine]])
        if mirrored:
            inner = np.diag([-1.0, 1.0]) @ inner
        self._offset = np.array([x, y]) @ self._matrix + self._offset
        self._matrix = inner @ self._matrix
        self._scale *= scale
        try:
            yield
        finally:
            self._matrix, self._offset, self._scale = before

    def _placed(self, path: Path) -> Points:
        placed: Points = np.asarray(path, dtype=np.float64) @ self._matrix + self._offset
        return placed

    def fill(self, outline: Path, colour: Colour, edge: Colour | None = None, edge_width: float = 0.05) -> None:
        """Fill a shape, and draw its edge if the edge has a colour."""
        self._steps.append(_Mark(self._placed(outline), colour, 0.0, edge, edge_width * self._scale))

    def line(self, path: Path, colour: Colour, width: float = 0.05) -> None:
        """Draw an open line."""
        self._steps.append(_Mark(self._placed(path), colour, width * self._scale))

    def inside(
        self, outline: Path, shapes: Sequence[Path], colour: Colour, opacity: float = 1.0, width: float = 0.0
    ) -> None:
        """Draw shapes of one colour (lines if there is a width), only inside the outline."""
        marks = [_Mark(self._placed(shape), colour, width * self._scale) for shape in shapes]
        self._steps.append(_Inside(self._placed(outline), marks, opacity))

    def shade(self, outline: Points, colour: Colour, opacity: float = 0.25, depth: float = 0.16) -> None:
        """Darken a shape along its lower right edge, so that it looks round."""
        middle = outline.mean(axis=0)
        lit = (outline - middle) * (1 - depth * 0.4) + middle - (outline.max(axis=0) - middle) * depth
        # A ring: the outline, then the lit part in reverse order, joined by a seam of zero width.
        ring = np.concatenate([outline, outline[:1], lit[:1], lit[::-1], outline[:1]])
        self.inside(outline, [ring], colour, opacity)

    def solid(self, outline: Path, colour: Colour) -> None:
        """Fill a shape with an edge and some shading."""
        points = np.asarray(outline, dtype=np.float64)
        self.fill(points, colour, mix(colour, BLACK, 0.55))
        self.shade(points, mix(colour, BLACK, 0.7), 0.28)

    def extent(self) -> tuple[Points, Points]:
        """Return the smallest and largest x and y of everything drawn."""
        filled = [step.points for step in self._steps if isinstance(step, _Mark) and not step.width]
        points = np.concatenate(filled)
        return points.min(axis=0), points.max(axis=0)

    def paint(self, image: Image.Image, matrix: Points, offset: Points) -> Box:
        """Paint everything on an image.

        Args:
            image: An RGB image, painted in place.
            matrix: Converts a row of the drawing code's units to pixels.
            offset: The pixel of the origin.

        Returns:
            The part of the image that the drawing covers: left, top, right, bottom.
        """
        draw = ImageDraw.Draw(image)
        for step in self._steps:
            if isinstance(step, _Mark):
                step.paint(draw, matrix, offset)
            else:
                _paint_inside(image, step, matrix, offset)
        filled = [step.points for step in self._steps if isinstance(step, _Mark) and not step.width]
        pixels = np.concatenate(filled) @ matrix + offset
        left, top = np.clip(np.floor(pixels.min(axis=0)), 0, image.size).astype(int).tolist()
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)), 0, image.size).astype(int).tolist()
        return left, top, right, bottom


def _paint_inside(image: Image.Image, step: _Inside, matrix: Points, offset: Points) -> None:
    outline = step.outline @ matrix + offset
    (least_x, least_y), (most_x, most_y) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    left, top = max(0, int(least_x)), max(0, int(least_y))
    right, bottom = min(image.width, int(most_x) + 2), min(image.height, int(most_y) + 2)
    if left >= right or top >= bottom:
        return
    clip = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(clip).polygon((outline - (left, top)).ravel().tolist(), fill=255)
    marks = Image.new("L", clip.size)
    draw = ImageDraw.Draw(marks)
    scale = math.hypot(matrix[0, 0], matrix[0, 1])
    value = round(255 * step.opacity)
    inner = offset - (left, top)
    for mark in step.marks:
        pixels = (mark.points @ matrix + inner).ravel().tolist()
        if mark.width:
            draw.line(pixels, fill=value, width=max(1, round(mark.width * scale)))
        else:
            draw.polygon(pixels, fill=value)
    image.paste(step.marks[0].colour, (left, top, right, bottom), ImageChops.darker(marks, clip))
