"""An index is refused at once if it cannot be used, and counts its labels."""

from pathlib import Path

import pytest

from lightning_transfer import ImageIndex
from lightning_transfer.data.index import Samples
from lightning_transfer.errors import DataError

ONE = Samples(("a.jpg",), (0,))


@pytest.mark.parametrize(
    ("splits", "multi_label", "message"),
    [
        ({"train": ONE}, False, "has the splits train: wanted train and validation, and test or not"),
        ({"train": ONE, "validation": ONE, "dev": ONE}, False, "has the splits train, validation, dev"),
        ({"train": ONE, "validation": Samples((), ())}, False, "The validation split of here has no images"),
        ({"train": ONE, "validation": Samples(("b.jpg",), ())}, False, "has 1 paths and 0 labels"),
        ({"train": ONE, "validation": Samples(("b.jpg",), (2,))}, False, "b.jpg has the label 2: wanted a class"),
        ({"train": ONE, "validation": Samples(("b.jpg",), (-1,))}, False, "b.jpg has the label -1"),
        ({"train": ONE, "validation": Samples(("b.jpg",), ("dogs",))}, False, "b.jpg has the label 'dogs'"),
        ({"train": ONE, "validation": Samples(("b.jpg",), ((0, 1),))}, False, r"b.jpg has the label \(0, 1\)"),
        ({"train": ONE, "validation": ONE}, True, "a.jpg has the label 0: wanted a tuple"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused(splits, multi_label, message):
    with pytest.raises(DataError, match=message):
        ImageIndex(Path("here"), ("cats", "dogs"), splits, multi_label=multi_label)


def test_an_image_with_two_labels_counts_for_both_classes():
    samples = Samples(("a", "b", "c", "d"), ((0, 2), (), (2,), (0, 2)))
    index = ImageIndex(Path(), ("x", "y", "z"), {"train": samples, "validation": samples}, multi_label=True)
    assert index.class_counts("train") == (2, 0, 3)
    assert samples.first(3).paths == ("a", "b", "c"), "one of each set of labels in turn"
