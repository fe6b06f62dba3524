"""The training loss against torch's own and scikit-learn's weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from lightning_transfer.errors import ModuleError
from lightning_transfer.training.loss import TrainingLoss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=generator), torch.randint(3, (12,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_torchs_cross_entropy(batch, smoothing):
    expected = F.cross_entropy(*batch, label_smoothing=smoothing)
    torch.testing.assert_close(TrainingLoss(3, smoothing)(*batch), expected)


def test_weights_multiply_each_samples_loss(batch):
    logits, labels = batch
    weights = [0.5, 1.0, 3.0]
    each = [weights[y] * F.cross_entropy(x[None], y[None]) for x, y in zip(logits, labels, strict=True)]
    torch.testing.assert_close(TrainingLoss(3, class_weights=weights)(logits, labels), torch.stack(each).mean())


def test_parts_of_a_batch_make_up_the_whole(batch):
    logits, labels = batch
    loss = TrainingLoss(3, 0.1, [0.5, 1.0, 3.0])
    parts = torch.stack([loss(x, y) for x, y in zip(logits.split(4), labels.split(4), strict=True)])
    torch.testing.assert_close(parts.mean(), loss(logits, labels))


def test_balanced_is_scikit_learns():
    labels = [0] * 30 + [1] * 10 + [2] * 5
    loss = TrainingLoss(3, class_weights="balanced")
    loss.balance([30, 10, 5])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    torch.testing.assert_close(loss.weight, torch.tensor(expected).float())


def test_it_is_float32_at_least(batch):
    logits, labels = batch
    for loss in (TrainingLoss(3), TrainingLoss(3, class_weights=[1, 2, 3])):
        assert loss(logits.bfloat16(), labels).dtype == torch.float32
        assert loss(logits.double(), labels).dtype == torch.float64
    assert TrainingLoss(3, class_weights=[1, 2, 3]).state_dict() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: wanted a share"),
        ({"class_weights": "even"}, "class_weights='even': wanted \"balanced\""),
        ({"class_weights": [1.0, 2.0]}, r"class_weights=\[1.0, 2.0\]: wanted 3 numbers"),
        ({"class_weights": [1.0, 2.0, -1.0]}, "none negative"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ModuleError, match=message):
        TrainingLoss(3, **arguments)
