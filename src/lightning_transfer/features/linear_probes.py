"""Linear classifiers on the outputs of several stages, trained together.

Shapes: C channels, K classes, N samples, S stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fit_linear_probes(
    features: Sequence[Tensor], labels: Tensor, num_classes: int, decay: float = 0.01, steps: int = 200
) -> list[nn.Linear]:
    """Train a linear classifier on each stage's features: the sum of their losses, by L-BFGS.

    Each channel is standardised for that. The loss has one minimum, so that no seed and no rate need be chosen.

    Args:
        features: S times (N, C) float32; C is each stage's own.
        labels: (N,) int64.
        num_classes: K.
        decay: Half of it, times the squares of a stage's weights, is added to that stage's mean cross-entropy.
        steps: At most.

    Returns:
        S layers, (N, C) to (N, K) logits; they take features as they are.

    >>> telling, silent = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.full((4, 1), 7.0)
    >>> first, second = fit_linear_probes([telling, silent], torch.tensor([0, 0, 1, 1]), num_classes=2)
    >>> round(first(telling)[3].softmax(dim=0)[1].item(), 2), round(second(silent)[3].softmax(dim=0)[1].item(), 2)
    (1.0, 0.5)
    """
    means = [stage.mean(dim=0) for stage in features]
    # A channel that is the same for all images has none.
    deviations = [stage.std(dim=0, correction=0).clamp_min(1e-6) for stage in features]
    standardised = [(x - mean) / deviation for x, mean, deviation in zip(features, means, deviations, strict=True)]
    probes = [nn.Linear(stage.shape[1], num_classes) for stage in features]
    parameters = [parameter for probe in probes for parameter in probe.parameters()]
    for parameter in parameters:
        nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.zeros(())
        for probe, stage in zip(probes, standardised, strict=True):
            loss = loss + F.cross_entropy(probe(stage), labels) + decay / 2 * probe.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    for probe, mean, deviation in zip(probes, means, deviations, strict=True):
        probe.requires_grad_(False)
        probe.weight.div_(deviation)
        probe.bias.sub_(probe.weight @ mean)
    return probes
