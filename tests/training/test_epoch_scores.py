"""EpochScores against scikit-learn."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from lightning_transfer.training.epoch_scores import EpochScores


@pytest.mark.parametrize("num_classes", [2, 5])
def test_scores_are_scikit_learns(num_classes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % num_classes
    logits = torch.randn(60, num_classes, generator=generator) + F.one_hot(labels, num_classes)
    scores = EpochScores("validation", num_classes)
    for batch in torch.arange(60).split(17):
        scores.add(logits[batch], labels[batch])
    got = {name: value.item() for name, value in scores.compute(F.cross_entropy).items()}
    probabilities = logits.double().softmax(dim=1)
    ranked = probabilities[:, 1] if num_classes == 2 else probabilities
    assert got == pytest.approx(
        {
            "validation/loss": log_loss(labels, probabilities),
            "validation/accuracy": accuracy_score(labels, logits.argmax(dim=1)),
            "validation/auroc": roc_auc_score(labels, ranked, multi_class="ovr"),
            "validation/f1": f1_score(labels, logits.argmax(dim=1), average="macro"),
        },
        rel=1e-5,
    )


def test_each_epoch_begins_anew():
    scores = EpochScores("train", 2)
    results = []
    for _ in range(2):
        scores.add(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        results.append(scores.compute(F.cross_entropy)["train/loss"])
    assert results[0] == results[1]
    scores.add(torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    scores.reset()
    scores.add(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    assert scores.compute(F.cross_entropy)["train/accuracy"] == 1
