"""Files whose classifier is another one, or none: what is taken of them, and what of the native pooling."""

import re

import pytest
import torch
from safetensors.torch import save_file

from lightning_transfer import Backbone, FeatureClassifier
from lightning_transfer.errors import BackboneError
from tiny_networks import numbers_of


def without(state, *beginnings):
    return {key: value for key, value in state.items() if not key.startswith(beginnings)}


def save(path, state):
    save_file(dict(state), path)
    return str(path)


def assert_same_numbers(backbone, state):
    """The backbone holds these arrays and no others, whatever their keys."""
    ours, theirs = (
        sorted((tuple(value.shape), value.contiguous().numpy().tobytes()) for value in arrays.values())
        for arrays in (backbone.stages.state_dict(), state)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("small/vit_xs", {"heads.0.weight": (5, 16), "heads.3.bias": (2,)}),
        ("small/swin_v2_xs", {"head.fc.weight": (5, 64), "head.norm.bias": (64,)}),
        ("small/maxvit_xs", {"classifier.7.weight": (5, 16)}),
        ("small/convnext_xs", {"classifier.0.weight": (5, 64), "classifier.0.bias": (5,)}),
        ("squeezenet1_1", {"classifier.2.new.weight": (5, 512)}),
        ("googlenet", {"aux1.fc3.bias": (5,), "fc.1.weight": (5, 1024)}),
    ],
)
def test_a_file_may_have_any_other_classifier(tmp_path, name, other):
    whole = numbers_of(name)
    beside = ("heads.", "head.", "classifier.", "fc.", "aux1.", "aux2.")
    stages = without(whole, *beside)
    assert len(stages) < len(whole)
    for number, state in enumerate(
        (whole, stages, stages | {key: torch.ones(size) for key, size in other.items()})
    ):
        assert_same_numbers(Backbone(name, save(tmp_path / f"{number}.safetensors", state)), stages)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("small/vit_xs", "encoder.layers.encoder_layer_4.ln_1.weight"),
        ("small/swin_xs", "features.1.0.attn.logit_scale"),
        ("small/convnext_xs", "features.1.0.block.1.weight"),  # a layer without numbers
        ("resnet18", "layer1.0.relu.weight"),
        ("resnet18", "conv2.weight"),
    ],
)
def test_what_belongs_to_no_classifier_is_unexpected(tmp_path, name, key):
    state = numbers_of(name)
    state[key] = torch.ones(3)
    with pytest.raises(BackboneError, match=rf"1 unexpected \({re.escape(key)}\)"):
        Backbone(name, save(tmp_path / "a.safetensors", state))


@pytest.mark.parametrize(
    ("name", "norm"), [("small/convnext_xs", "classifier.0"), ("small/maxvit_xs", "classifier.2")]
)
def test_the_native_pool_has_the_files_numbers_or_is_refused(tmp_path, name, norm):
    state = numbers_of(name)
    pool = Backbone(name, save(tmp_path / "whole.safetensors", state)).native_pool()
    for part in ("weight", "bias"):
        assert [value for value in pool.state_dict().values() if torch.equal(value, state[f"{norm}.{part}"])]

    own = {f"{norm}.weight": torch.ones(2, 3), f"{norm}.bias": torch.ones(2)}
    for number, beside in enumerate(({}, own)):
        path = save(tmp_path / f"{number}.safetensors", without(state, "classifier.") | beside)
        backbone = Backbone(name, path)
        assert not backbone.has_native_pool
        with pytest.raises(BackboneError, match=rf"has no {norm}\.weight of .*: take another pool"):
            backbone.native_pool()
        arguments = {"weights": path, "num_classes": 2, "image_size": 32}
        with pytest.raises(BackboneError, match='has no pool="native" here'):
            FeatureClassifier(name, pool="native", **arguments)
        FeatureClassifier(name, pool="avg", **arguments)


def test_the_native_pool_needs_the_last_stage():
    assert Backbone("small/vit_xs", None, last_stage="norm").has_native_pool
    cut = Backbone("small/vit_xs", None, last_stage="block4")
    with pytest.raises(BackboneError, match="the stage after block4, which is not kept: take another pool"):
        cut.native_pool()
    with pytest.raises(BackboneError, match="the stages from norm on, which are cut off"):
        Backbone("small/vit_xs", None).split("norm")[0].native_pool()


def test_a_run_that_begins_with_a_checkpoint_has_its_native_pool(tmp_path, quiet_trainer):
    first = FeatureClassifier(
        "small/convnext_xs",
        weights=save(tmp_path / "a.safetensors", numbers_of("small/convnext_xs")),
        num_classes=2,
        image_size=32,
        pool="native",
    )
    trainer = quiet_trainer()
    trainer.strategy.connect(first)
    first.class_names, first.resize = ("cats", "dogs"), "squash"
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    second = FeatureClassifier(
        "small/convnext_xs", num_classes=3, image_size=64, pool="native", init_from=str(tmp_path / "first.ckpt")
    )
    assert [tuple(value.shape) for value in second.head.pool.state_dict().values()] == [(64,), (64,)]
    for one, other in zip(first.head.pool.parameters(), second.head.pool.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not other.requires_grad
