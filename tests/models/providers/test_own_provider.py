"""Somebody's own networks, made known from outside: the example of docs/backbones.md, and what can go wrong."""

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_transfer import Backbone, FineTuningClassifier, StagedUnfreeze, load_classifier
from lightning_transfer.errors import BackboneError, ProviderError
from lightning_transfer.models.pooling import AveragePool
from lightning_transfer.models.providers import provider as provider_module
from lightning_transfer.models.providers.provider import Preprocessing, Provider, Row, register_provider
from runs import images_of


def small_network():
    layers = {
        "stem": nn.Conv2d(3, 8, 4, 4),
        "body": nn.Sequential(nn.ReLU(), nn.Conv2d(8, 16, 3, 2)),
        "norm": nn.BatchNorm2d(16),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(16, 10),
    }
    return nn.Sequential(OrderedDict(layers))


class MyNetworks(Provider):
    """What has to be told of networks of one's own."""

    def network_names(self):
        return ["small"]

    def build(self, name):
        return small_network()

    def row(self, name, network):
        stages = {"stem": network.stem, "body": network.body}
        return Row(stages, pool=nn.Sequential(network.norm, AveragePool()))

    def preprocessing(self, name):
        return Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), size=64)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(provider_module, "_registered", {})
    register_provider("mine", MyNetworks())


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = small_network().eval()
    nn.init.uniform_(network.norm.running_mean)
    return network


def test_a_backbone_is_made_of_it_and_of_its_file(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    backbone = Backbone("mine/small", weights=str(tmp_path / "small.safetensors")).eval()
    assert backbone.stage_names == ("stem", "body")
    assert (backbone.native_size, backbone.interpolation) == (64, "bilinear")
    assert backbone.out_shape(64) == (16, 7, 7)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        logits = network.classifier(backbone.native_pool()(backbone(images)))
        torch.testing.assert_close(logits, network((images / 255 - 0.5) / 0.5), rtol=1e-5, atol=1e-5)


def test_it_is_trained_saved_and_loaded(network, image_folder, quiet_trainer, tmp_path):
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    model = FineTuningClassifier(
        "mine/small", weights=str(tmp_path / "small.safetensors"), image_size=32, pool="native", hidden=8
    )
    trainer = quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze({0: ["head"], 1: ["body"]})])
    trainer.fit(model, images_of(image_folder))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    loaded = load_classifier(tmp_path / "model.ckpt")
    with torch.no_grad():
        assert torch.equal(loaded.probabilities(images), model.eval()(images).softmax(1))
    assert torch.equal(loaded.module.head.pool[0].running_mean, network.norm.running_mean)
    provider_module._registered.clear()
    with pytest.raises(ProviderError, match=r"no provider 'mine/' for 'mine/small': .*first: register_provider"):
        load_classifier(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("mine/smal", None, "no network 'smal' in MyNetworks. Nearest: small"),
        (
            "mine/small",
            "DEFAULT",
            "no weights 'DEFAULT' in MyNetworks: pass the path of a file, or None",
        ),
        ("yours/small", None, "no provider 'yours/' for 'yours/small': wanted .* after timm/, mine/"),
    ],
)
def test_what_is_unknown_is_told(name, weights, message):
    with pytest.raises(BackboneError, match=message):
        Backbone(name, weights)


@pytest.mark.parametrize("prefix", ["", "a/b", "timm"])
def test_a_prefix_that_cannot_be_told_apart_is_refused(prefix):
    with pytest.raises(BackboneError, match="wanted a name without a slash, other than timm"):
        register_provider(prefix, MyNetworks())
