"""The surroundings of a subject: background, clutter, shadow, things in front of it, light and noise.

This code does not know the subject's class, so the surroundings cannot reveal it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lightning_transfer.sketches.canvas import Box, Canvas, Colour, Points, blob, ellipse, limb, mix

_OVERSAMPLING = 2
_SHADOW: Colour = (30, 28, 34)


def any_colour(rng: np.random.Generator) -> Colour:
    """Draw a random colour that is neither glaring nor nearly black."""
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.62), rng.uniform(0.3, 0.95)
    waves = (max(0.0, min(1.0, abs((hue + third) % 1 * 6 - 3) - 1)) for third in (0, 2 / 3, 1 / 3))
    red, green, blue = (round(255 * value * (1 - saturation + saturation * wave)) for wave in waves)
    return red, green, blue


def _near(colour: Colour, rng: np.random.Generator, spread: float = 0.3) -> Colour:
    return mix(colour, any_colour(rng), spread * rng.random())


def _leaf(x: float, y: float, length: float, angle: float) -> Points:
    cosine, sine = math.cos(angle) * length, math.sin(angle) * length
    return blob([(x, y), (x + cosine * 0.5 - sine * 0.22, y + sine * 0.5 + cosine * 0.22), (x + cosine, y + sine),
                 (x + cosine * 0.5 + sine * 0.22, y + sine * 0.5 - cosine * 0.22)])  # fmt: skip


def _fill(draw: ImageDraw.ImageDraw, outline: Points, colour: Colour) -> None:
    draw.polygon(outline.ravel().tolist(), fill=colour)


def _meadow(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, colour: Colour) -> None:
    horizon = rng.uniform(0.3, 0.85) * size
    hills = np.linspace(-0.1, 1.1, 7) * size
    for _ in range(int(rng.integers(1, 4))):
        heights = horizon + rng.uniform(-0.1, 0.1, 7) * size
        outline = np.concatenate([np.column_stack([hills, heights]), [(1.1 * size, size), (-0.1 * size, size)]])
        _fill(draw, outline, colour)
        colour, horizon = _near(mix(colour, (70, 110, 50), 0.2), rng), horizon + 0.12 * size
    for x, y, height in rng.random((int(rng.integers(0, 40)), 3)):
        foot = horizon + (size - horizon) * y
        draw.line([x * size, foot, x * size + 3, foot - height * 0.09 * size], fill=mix(colour, (40, 70, 30), 0.4))


def _room(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, colour: Colour) -> None:
    floor = rng.uniform(0.55, 0.9) * size
    if rng.random() < 0.6:
        left, top = rng.uniform(-0.1, 0.7, 2) * size * (1, 0.5)
        wide, high = rng.uniform(0.2, 0.5, 2) * size
        draw.rectangle(
            [left, top, left + wide, top + high], fill=_near(colour, rng, 0.9), outline=any_colour(rng), width=3
        )
        draw.line([left + wide / 2, top, left + wide / 2, top + high], fill=any_colour(rng), width=2)
    draw.rectangle([0, floor, size, size], fill=colour)
    draw.line([0, floor, size, floor], fill=mix(colour, _SHADOW, 0.4), width=int(rng.integers(1, 5)))
    if rng.random() < 0.6:
        for x in np.arange(-1.0, 2.0, rng.uniform(0.12, 0.3)):
            slope = (x - 0.5) * 1.8 + 0.5
            draw.line([x * size, floor, slope * size, size], fill=mix(colour, _SHADOW, 0.25))


def _wallpaper(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, colour: Colour) -> None:
    step = rng.uniform(0.08, 0.28) * size
    kind = rng.integers(4)
    places = np.arange(-1.0, size / step + 1) * step + rng.uniform(0, step)
    thick = max(1, round(step * rng.uniform(0.1, 0.55)))
    slant = rng.uniform(-0.5, 0.5) * size
    for row, place in enumerate(places):
        if kind <= 1:
            draw.line([place, 0, place + slant, size], fill=colour, width=thick)
        if kind == 1:
            draw.line([0, place, size, place - slant], fill=mix(colour, _SHADOW, 0.15), width=thick)
        if kind == 2:
            radius = thick * 0.6
            for other in places + (row % 2) * step / 2:
                draw.ellipse([other - radius, place - radius, other + radius, place + radius], fill=colour)
        if kind == 3:
            draw.line([0, place, size, place], fill=colour, width=2)
            for other in (places + (row % 2) * step) * 2:
                draw.line([other, place, other, place + step], fill=colour, width=2)


def _bushes(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, colour: Colour) -> None:
    numbers = rng.random((int(rng.integers(15, 45)), 4))
    for x, y, length, shade in numbers:
        tint = mix(colour, (40, 60, 40) if shade < 0.5 else (200, 205, 150), abs(shade - 0.5))
        _fill(draw, _leaf(x * size, y * size, (0.1 + 0.2 * length) * size, shade * 40), tint)


def _lights(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, colour: Colour) -> None:
    for x, y, extent, tint in rng.random((int(rng.integers(6, 26)), 4)):
        radius = (0.03 + 0.14 * extent) * size
        _fill(draw, ellipse(x * size, y * size, radius, radius), mix(colour, (250, 240, 210), tint * 0.6))


_PLACES: tuple[Callable[[ImageDraw.ImageDraw, int, np.random.Generator, Colour], None], ...] = (
    _meadow, _room, _wallpaper, _bushes, _lights,
)  # fmt: skip


def _clutter(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    """Draw clutter; some of it looks like ears, eyes or whiskers, on purpose."""
    for x, y, extent, angle in rng.random((int(rng.integers(0, 9)), 4)):
        x, y, extent, colour = x * size, y * size, (0.04 + 0.13 * extent) * size, any_colour(rng)
        match int(rng.integers(7)):
            case 0:
                corners = ellipse(x, y, extent, extent * 0.8)[::6]
                _fill(draw, corners, colour)
            case 1:
                tip = (x + extent * (angle - 0.5), y - extent)
                _fill(draw, np.array([(x - extent * 0.6, y), (x + extent * 0.6, y), tip]), colour)
            case 2:
                _fill(draw, _leaf(x, y, extent * 1.6, angle * 7), colour)
            case 3:
                for side in (-0.5, 0.5):
                    pupil = ellipse(x + side * extent, y, extent * 0.25, extent * 0.25)
                    _fill(draw, pupil, mix(colour, _SHADOW, 0.6))
            case 4:
                for slope in (-0.3, 0.0, 0.3):
                    draw.line([x, y, x + extent * 2 * (angle - 0.5), y + extent * slope], fill=colour)
            case 5:
                bow = [(x, y), (x + extent, y - extent * angle), (x + 2 * extent, y)]
                _fill(draw, limb(bow, [extent * 0.2, extent * 0.1]), colour)
            case _:
                _fill(draw, ellipse(x, y, extent * (0.5 + angle), extent, angle * 90), colour)


def _background(size: int, rng: np.random.Generator) -> Image.Image:
    first, second = any_colour(rng), any_colour(rng)
    upper, lower = (first, _near(first, rng)), (mix(first, second, rng.random() * 0.6), second)
    corners = np.rot90(np.array([upper, lower], dtype=np.uint8), int(rng.integers(4)))
    image = Image.fromarray(corners.copy()).resize((size, size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    place = int(rng.integers(len(_PLACES) + 1))
    if place < len(_PLACES):
        _PLACES[place](draw, size, rng, _near(second, rng))
    _clutter(draw, size, rng)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 2.5)))
    whole = size * _OVERSAMPLING
    # Halved again at the end, which restores the same pixels.
    return image.resize((whole, whole), Image.Resampling.NEAREST)


def _shadow(image: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """Draw a soft shadow on the ground under the subject."""
    left, top, right, bottom = box
    wide, high = (right - left) * 0.5, (bottom - top) * 0.09
    mask = Image.new("L", (round(wide * 2.2), round(high * 2.2) + 1))
    draw = ImageDraw.Draw(mask)
    for share, opacity in ((1.1, 35), (0.95, 60), (0.8, 85)):
        draw.ellipse(
            [wide * (1.1 - share), high * (1.1 - share), wide * (1.1 + share), high * (1.1 + share)], fill=opacity
        )
    start = round(left - 0.1 * wide + rng.uniform(-0.3, 0.3) * wide), round(bottom - 1.6 * high)
    image.paste(_SHADOW, start, mask)


def _in_front(image: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """Draw a stick, leaves, a box or a fence in front of the subject."""
    draw, whole = ImageDraw.Draw(image), image.width
    left, top, right, bottom = box
    extent, colour = max(right - left, bottom - top), any_colour(rng)
    x, y = rng.uniform(left, right), rng.uniform(top, bottom)
    match int(rng.integers(4)):
        case 0:
            slope = rng.uniform(-1, 1)
            path = [(x - whole * slope, -5.0), (x, y), (x + whole * slope * 0.8, whole + 5.0)]
            widths = (rng.uniform(0.01, 0.035, 3) * extent).tolist()
            _fill(draw, limb(path, widths), mix(colour, (90, 60, 40), 0.5))
        case 1:
            for _ in range(int(rng.integers(2, 6))):
                at = rng.uniform(-0.25, 0.25, 2) * extent
                tint = mix(colour, (60, 110, 50), rng.random())
                _fill(draw, _leaf(x + at[0], y + at[1], rng.uniform(0.15, 0.35) * extent, rng.uniform(0, 7)), tint)
        case 2:
            # From below or from one side, never over the middle of the head.
            height = bottom - rng.uniform(0.1, 0.3) * (bottom - top)
            start = rng.uniform(left - 0.3 * extent, x)
            draw.rectangle([start, height, start + rng.uniform(0.4, 1.0) * extent, whole], fill=colour)
            draw.line([start, height, start + 0.4 * extent, height], fill=mix(colour, _SHADOW, 0.4), width=3)
        case _:
            step = rng.uniform(0.25, 0.4) * extent
            for post in np.arange(rng.uniform(0, step), whole, step):
                draw.line(
                    [post, bottom - 0.45 * extent, post, whole], fill=colour, width=max(3, round(0.05 * extent))
                )
            draw.line(
                [0, bottom - 0.25 * extent, whole, bottom - 0.25 * extent], fill=mix(colour, _SHADOW, 0.2), width=5
            )


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply light from one side, a colour cast, haze, blur and noise."""
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.8)))
    # Rows of 3 × width numbers: numpy is slow if the last axis has only three.
    high, wide = image.height, image.width
    slope = rng.uniform(-0.28, 0.28, 2).astype(np.float32)
    ramp = np.linspace(-1, 1, wide, dtype=np.float32)
    haze = np.float32(rng.uniform(0, 0.18))
    light = (np.float32(rng.uniform(0.8, 1.2)) + slope[0] * ramp[:, None] + slope[1] * ramp) * (1 - haze)
    cast = rng.uniform(0.93, 1.07, 3).astype(np.float32)
    grain = rng.standard_normal((high, wide), dtype=np.float32) * np.float32(rng.uniform(0, 8)) + haze * 170
    values = np.repeat(light, 3, axis=1)
    values *= np.tile(cast, wide)
    values *= np.asarray(image).reshape(high, 3 * wide)
    values += np.repeat(grain, 3, axis=1)
    np.clip(values, 0, 255, out=values)
    return Image.fromarray(values.astype(np.uint8).reshape(high, wide, 3))


def render(canvas: Canvas, size: int) -> tuple[Image.Image, Box]:
    """Place what was drawn on a canvas in a scene.

    Args:
        canvas: The subject.
        size: Pixels along each side.

    Returns:
        An RGB image, and the part of it that the subject covers: left, top, right, bottom.
    """
    rng, whole = canvas.rng, size * _OVERSAMPLING
    image = _background(size, rng)
    least, greatest = canvas.extent()
    turn = math.radians(rng.normal(0, 6))
    share = rng.uniform(0.4, 0.95) if rng.random() < 0.85 else rng.uniform(0.95, 1.2)
    scale = share * whole / float(max(greatest - least))
    matrix = scale * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    room = np.maximum(whole - (greatest - least) * scale, 0.12 * whole)
    middle = whole / 2 + rng.uniform(-0.5, 0.5, 2) * room
    offset = middle - (least + greatest) / 2 @ matrix
    if rng.random() < 0.7:
        corner = np.abs(matrix).T @ ((greatest - least) / 2)
        left, top, right, bottom = np.concatenate([middle - corner, middle + corner]).round().astype(int).tolist()
        _shadow(image, (left, top, right, bottom), rng)
    box = canvas.paint(image, matrix, offset)
    if rng.random() < 0.25:
        _in_front(image, box, rng)
    left, top, right, bottom = (round(value / _OVERSAMPLING) for value in box)
    return _lit(image.reduce(_OVERSAMPLING), rng), (left, top, right, bottom)
