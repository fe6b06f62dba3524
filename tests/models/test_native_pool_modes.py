"""A native pooling with BatchNorm is as frozen as a backbone: its statistics do not move, in any loop."""

import pytest
import torch
from torch import nn

from lightning_transfer import Backbone, FeatureClassifier, FineTuningClassifier, Head, StagedUnfreeze
from runs import images_of


class WithNorm(nn.Module):
    """A pooling with layers of its own, as MobileNetV4 has."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(512)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.norm(maps.mean(dim=(2, 3)))
        return pooled


@pytest.fixture
def with_norm(monkeypatch):
    monkeypatch.setattr(Backbone, "native_pool", lambda self: WithNorm())


def test_in_a_loop_by_hand():
    head = Head((512, 2, 2), 2, "native", hidden=8, native=WithNorm())
    head.train()
    for _ in range(2):
        head(torch.randn(4, 512, 2, 2)).sum().backward()
    assert not head.pool.norm.running_mean.any()
    assert head.hidden.training
    assert not any(parameter.requires_grad for parameter in head.pool.parameters())


@pytest.mark.parametrize("regime", [FeatureClassifier, FineTuningClassifier])
def test_under_a_trainer(regime, with_norm, image_folder, quiet_trainer):
    """FreezeAudit comes along, and Lightning's warning of modules in eval mode would be an error."""
    model = regime("squeezenet1_1", weights=None, pool="native", hidden=8)
    callbacks = [StagedUnfreeze({0: ["head"], 1: ["fire9"]})] if regime is FineTuningClassifier else []
    quiet_trainer(max_epochs=2, callbacks=callbacks).fit(model, images_of(image_folder))
    assert not model.head.pool.norm.running_mean.any()
    assert model.head.pool.norm.num_batches_tracked == 0
