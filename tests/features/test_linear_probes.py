"""Linear probes against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_transfer.features.linear_probes import fit_linear_probes


def features_of(classes, seed=0):
    """Three "stages" of other widths and scales, from useless to telling: 300 images to train on, 200 others."""
    stages, labels = [], None
    for width, informative in ((6, 4), (20, 8), (60, 20)):
        x, labels = make_classification(
            500, width, n_informative=informative, n_redundant=0, n_classes=classes, class_sep=0.7,
            shuffle=False, random_state=seed,
        )  # fmt: skip
        stages.append(torch.tensor(x * 10.0 ** (width % 7 - 3) + width).float())
    order = np.random.default_rng(seed).permutation(500)
    return [stage[order[:300]] for stage in stages], [stage[order[300:]] for stage in stages], labels[order]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_they_are_scikit_learns(classes):
    train, others, labels = features_of(classes)
    probes = fit_linear_probes(train, torch.tensor(labels[:300]), classes, decay=0.02)
    # scikit-learn has one row of weights for two classes, where here are two, each of half the length.
    inverse = 1 / (0.02 * 300) * (2 if classes == 2 else 1)
    for probe, x, other in zip(probes, train, others, strict=True):
        oracle = make_pipeline(StandardScaler(), LogisticRegression(C=inverse, tol=1e-8, max_iter=5000))
        oracle.fit(x.double().numpy(), labels[:300])
        found = probe(other).softmax(dim=1)
        np.testing.assert_allclose(found, oracle.predict_proba(other.double().numpy()), atol=5e-3)
        accuracy = float((found.argmax(dim=1).numpy() == labels[300:]).mean())
        assert accuracy == pytest.approx(oracle.score(other.double().numpy(), labels[300:]), abs=0.01)


def test_a_stage_learns_the_same_alone():
    train, others, labels = features_of(2)
    together = fit_linear_probes(train, torch.tensor(labels[:300]), 2)
    for stage, probe in enumerate(together):
        (alone,) = fit_linear_probes([train[stage]], torch.tensor(labels[:300]), 2)
        torch.testing.assert_close(
            probe(others[stage]).softmax(dim=1), alone(others[stage]).softmax(dim=1), rtol=0, atol=5e-3
        )


def test_it_is_the_same_whatever_the_seed():
    train, _, labels = features_of(3)
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights.append([probe.weight for probe in fit_linear_probes(train, torch.tensor(labels[:300]), 3)])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_channel_that_never_changes_does_no_harm():
    train, others, labels = features_of(2)
    flat = [torch.cat([x[-1], torch.full((len(x[-1]), 2), 0.3)], dim=1) for x in (train, others)]
    (plain,) = fit_linear_probes(train[-1:], torch.tensor(labels[:300]), 2)
    (probe,) = fit_linear_probes(flat[:1], torch.tensor(labels[:300]), 2)
    torch.testing.assert_close(probe(flat[1]), plain(others[-1]), rtol=0, atol=2e-2)
