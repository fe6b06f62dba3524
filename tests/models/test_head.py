"""The head against formulas written out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_transfer import Head
from lightning_transfer.errors import ModuleError


def parameters(head):
    return sum(p.numel() for p in head.parameters())


def numbers(layer):
    return layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 512 * 4 * 4 * 256 + 256 + 256 * 2 + 2),
        ({"pool": "avg"}, 512 * 256 + 256 + 256 * 2 + 2),
        ({"pool": "max", "hidden": 10, "num_classes": 5}, 512 * 10 + 10 + 10 * 5 + 5),
        ({"hidden": 0}, 512 * 4 * 4 * 2 + 2),
        ({"hidden": 0, "pool": "avg", "num_classes": 3}, 512 * 3 + 3),
    ],
)
def test_parameter_counts(arguments, expected):
    assert parameters(Head((512, 4, 4), **({"num_classes": 2} | arguments))) == expected


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize(
    ("pool", "pooled"),
    [
        ("flatten", lambda features: features.reshape(7, -1)),
        ("avg", lambda features: features.mean(axis=(2, 3))),
        ("max", lambda features: features.max(axis=(2, 3))),
    ],
)
def test_logits_are_those_of_the_formula(pool, pooled, hidden):
    torch.manual_seed(0)
    head = Head((5, 3, 4), num_classes=3, pool=pool, hidden=hidden).eval()
    features = np.random.default_rng(0).normal(size=(7, 5, 3, 4)).astype(np.float32)
    units = pooled(features.astype(np.float64))
    if hidden:
        weight, bias = numbers(head.hidden[0])
        units = np.maximum(units @ weight.T + bias, 0)
    weight, bias = numbers(head.logits)
    with torch.no_grad():
        logits = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(logits, units @ weight.T + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [0, 1000])
def test_dropout_leaves_out_its_share_in_training_mode_alone(hidden):
    head = Head((1000, 1, 1), num_classes=2, hidden=hidden, dropout=0.3)
    reaching = []
    head.logits.register_forward_hook(lambda module, inputs, output: reaching.append(inputs[0].detach()))
    if hidden:
        nn.init.ones_(head.hidden[0].weight)
    features = torch.ones(20, 1000, 1, 1)
    torch.manual_seed(0)
    head.train()(features)
    head.eval()(features)
    in_training, in_evaluation = reaching
    # 20,000 draws: the standard deviation of the share is 0.003.
    assert (in_training == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    kept = in_training != 0
    torch.testing.assert_close(in_training[kept], (in_evaluation / 0.7)[kept])
    assert (in_evaluation != 0).all()


def test_without_dropout_training_and_evaluation_agree():
    head = Head((8, 2, 2), num_classes=2, dropout=0.0)
    features = torch.rand(4, 8, 2, 2)
    torch.testing.assert_close(head.train()(features), head.eval()(features))


def test_keys_are_the_same_for_every_pool():
    keys = {tuple(Head((4, 2, 2), 2, pool=pool).state_dict()) for pool in ("flatten", "avg", "max")}
    assert keys == {("hidden.0.weight", "hidden.0.bias", "logits.weight", "logits.bias")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool": "mean"}, "pool='mean': wanted one of flatten, avg, max"),
        ({"num_classes": 1}, "num_classes=1: wanted two or more"),
        ({"hidden": -1}, "hidden=-1: wanted a width, or 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ModuleError, match=message):
        Head((8, 2, 2), **({"num_classes": 2} | arguments))
