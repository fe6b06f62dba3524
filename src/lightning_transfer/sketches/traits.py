"""The traits that distinguish mammals."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_transfer.sketches.canvas import BLACK, Colour
from lightning_transfer.sketches.coats import Coat


@dataclass(frozen=True)
class Mammal:
    """How a mammal looks: the values of its traits make it a cat, a dog, a cow or a mouse.

    Lengths are in head radii.

    Args:
        coat: Its fur.
        ears: "pointed", "folded", "floppy", "tipped", "round", "long", "sideways" or "fan".
        ear_size: Their length, 1 being usual.
        ear_spread: How far apart they are, 1 being usual.
        width: Half the head's width.
        jaw: Half the width of the lower part of the head.
        length: How far the chin is below the head's middle.
        muzzle: Half the width and height of the muzzle, seen from the front.
        snout: How far the muzzle sticks out, seen from the side.
        nose: "triangle", "oval", "snout" or "trunk" (with tusks).
        nose_size: Half its width.
        nose_colour: Its colour.
        eyes: "almond", "round" or "dot".
        eye_size: Half an eye's width.
        eye_spread: How far each eye is from the head's middle.
        iris: The eyes' colour.
        pupil: The width of the pupil as a share of its height.
        whiskers: Their strength, from 0 (none) to 1.
        tongue: Whether it shows.
        tail: "thin", "bushy", "plume", "sabre", "short", "curled", "tufted" or "none".
        legs: Their length.
        girth: The body's thickness, 1 being usual.
        head: The head's size beside the body, 1 being usual.
        extras: Any of "mane", "horns", "mask", "patches", "cheeks", "wool", "teeth", "udder".
    """

    coat: Coat
    ears: str = "round"
    ear_size: float = 1.0
    ear_spread: float = 1.0
    width: float = 1.0
    jaw: float = 0.75
    length: float = 0.95
    muzzle: tuple[float, float] = (0.45, 0.35)
    snout: float = 0.5
    nose: str = "oval"
    nose_size: float = 0.16
    nose_colour: Colour = BLACK
    eyes: str = "round"
    eye_size: float = 0.15
    eye_spread: float = 0.42
    iris: Colour = (70, 44, 30)
    pupil: float = 0.9
    whiskers: float = 0.0
    tongue: bool = False
    tail: str = "short"
    legs: float = 1.3
    girth: float = 1.0
    head: float = 1.0
    extras: tuple[str, ...] = ()
