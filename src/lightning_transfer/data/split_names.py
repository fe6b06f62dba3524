"""What a split may be called."""

from __future__ import annotations

import re

SYNONYMS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
SPLIT_OF = {name: split for split, names in SYNONYMS.items() for name in names}
# These alone also stand for their split beside other words, as in train_images.
WORDS = frozenset({"train", "training", "validation", "val", "valid", "test", "testing"})


def split_named(name: str) -> str | None:
    """Return the split that a name stands for, in any case; None for any other name.

    >>> [split_named(name) for name in ("Training", "val", "test_set", "dogs")]
    ['train', 'validation', 'test', None]
    """
    plain = re.sub(r"[\s_-]+", "", name.lower())
    return SPLIT_OF.get(plain) or SPLIT_OF.get(re.sub(r"(set|split)$", "", plain))


def split_in_name(name: str) -> str | None:
    """Return the split that a name begins or ends with.

    >>> [split_in_name(name) for name in ("train_images", "seg_test", "valid-images", "trains", "test")]
    ['train', 'test', 'validation', None, 'test']
    """
    words = re.split(r"[\W_]+", name.strip("_- ").lower())
    return split_named(name) or next((SPLIT_OF[word] for word in (words[0], words[-1]) if word in WORDS), None)
