"""timm's networks as rows of stages, against the untouched networks."""

import re
import sys
from collections import Counter

import pytest
import timm
import torch
from torch import nn

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError, ExtraError
from lightning_transfer.models import weights as weights_module
from lightning_transfer.models.providers import timm as provider
from lightning_transfer.models.saving import save_weights

# A small member of each family, and the size at which it is tried: not its own, where it takes others.
SMALL = {
    "resnet10t": 64,
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "efficientnet_b0": 64,
    "tf_efficientnet_lite0": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "regnetx_002": 64,
    "vit_tiny_patch16_224": 64,
    "deit_tiny_patch16_224": 64,
    "deit_tiny_distilled_patch16_224": 64,
    "deit3_small_patch16_224": 64,
    "eva02_tiny_patch14_224": 56,
    "beit_base_patch16_224": 224,
    "vit_small_patch14_dinov2": 70,
    "vit_small_patch14_reg4_dinov2": 56,
    "vit_small_patch16_dinov3": 48,
    "vit_base_patch16_siglip_224": 64,
    "vit_xsmall_patch16_clip_224": 64,
    "swin_tiny_patch4_window7_224": 96,
    "swinv2_tiny_window8_256": 96,
    "test_maxvit": 160,
    "hiera_tiny_224": 224,
    "mambaout_femto": 64,
    # And what is out of the ordinary.
    "levit_128s": 224,
    "mixer_s32_224": 224,
    "vit_relpos_small_patch16_224": 224,
    "vit_tiny_r_s16_p8_224": 64,
    "vit_small_patch16_rope_mixed_224": 64,
    "vitamin_small_224": 64,
    "densenet121": 64,
    "vgg11": 64,
}
CUTS = ["resnet10t", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "eva02_tiny_patch14_224"]


def fill(network):
    """Give a network numbers that make every layer matter, BatchNorm's statistics, biases and layer scales too."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        for key, tensor in module.named_parameters(recurse=False):
            if tensor.ndim > 1:
                bound = (3 / max(1, tensor[0].numel())) ** 0.5
                nn.init.uniform_(tensor, -bound, bound, generator=generator)
            else:
                low = -0.1 if key == "bias" else 0.5
                nn.init.uniform_(tensor, low, low + 0.5, generator=generator)
        for key, buffer in module.named_buffers(recurse=False):
            if key in ("running_mean", "running_var"):
                buffer.uniform_(0.5 * (key == "running_var"), 1, generator=generator)
    return network.eval()


def untouched(name, **arguments):
    """The network as timm itself makes it, filled."""
    return fill(timm.create_model(name, pretrained=False, **arguments))


def backbone_with(network, name, monkeypatch, suffix="safetensors"):
    """A backbone that has read the network's numbers from a file."""
    monkeypatch.setattr(weights_module, "read_file", lambda path: dict(network.state_dict()))
    return Backbone(f"timm/{name}", weights=f"a.{suffix}").eval()


def draw(size, count=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def normalised(images, network):
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (images / 255 - mean) / std


def assert_native_pooling_is_timms(name, size, monkeypatch):
    network = untouched(name, **provider._any_size(name))
    backbone = backbone_with(network, name, monkeypatch)
    images = draw(size)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(normalised(images, network)), pre_logits=True)
        features = backbone(images)
        got = backbone.native_pool().eval()(features)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert expected.std() > 0
    assert tuple(features.shape[1:]) == backbone.out_shape(size)
    return network, backbone, images, features


@pytest.mark.parametrize("name", SMALL)
def test_native_pooling_of_the_row_is_what_timms_own_classifier_gets(name, monkeypatch):
    network, backbone, images, features = assert_native_pooling_is_timms(name, SMALL[name], monkeypatch)
    # Nothing of the network is lost, and nothing is in two stages.
    stages = [{id(p) for p in stage.parameters()} for stage in backbone.stages.values()]
    assert len(set.union(*stages)) == sum(len(stage) for stage in stages)
    classifiers = network.get_classifier()
    classifiers = classifiers if isinstance(classifiers, tuple) else (classifiers,)
    dropped = {id(p) for classifier in classifiers for p in classifier.parameters()}
    kept = sum(p.numel() for part in (backbone, backbone.native_pool()) for p in part.parameters())
    assert kept == sum(p.numel() for p in network.parameters() if id(p) not in dropped)
    with torch.no_grad():
        for cut in backbone.stage_names[:: 1 if SMALL[name] < 224 else 5]:
            prefix, suffix = backbone.split(cut)
            torch.testing.assert_close(suffix(prefix(images)), features)


@pytest.mark.parametrize("name", CUTS)
def test_gradients_reach_exactly_the_unfrozen_stages(name):
    backbone = Backbone(f"timm/{name}", weights=None)
    images = draw(SMALL[name])
    for first in (backbone.stage_names[1], backbone.stage_names[-2]):
        index = backbone.stage_index(first)
        for number, stage in enumerate(backbone.stages.values()):
            stage.requires_grad_(number >= index)
        backbone.zero_grad(set_to_none=True)
        backbone(images).square().mean().backward()
        reached = {key for key, p in backbone.named_parameters() if p.grad is not None}
        wanted = tuple(f"stages.{stage}." for stage in backbone.stage_names[index:])
        assert reached == {key for key, _ in backbone.named_parameters() if key.startswith(wanted)}


def test_stage_names_of_the_families():
    def numbered(kind, count):
        return [f"{kind}{number}" for number in range(1, count + 1)]

    expected = {
        "resnet10t": ["stem", *numbered("layer", 4)],
        "convnext_atto": ["stem", *numbered("stage", 4)],
        "tf_efficientnet_lite0": ["stem", *numbered("block", 7), "last_conv"],
        "mobilenetv3_small_050": ["stem", *numbered("block", 6)],
        "regnetx_002": ["stem", *numbered("stage", 4)],
        "vit_tiny_patch16_224": ["patch_embed", *numbered("block", 12), "norm"],
        "eva02_tiny_patch14_224": ["patch_embed", *numbered("block", 12)],  # its norm comes after pooling
        "swin_tiny_patch4_window7_224": ["stem", *numbered("stage", 4), "norm"],
        "hiera_tiny_224": ["patch_embed", *numbered("block", 12)],
        "vit_small_patch16_rope_mixed_224": ["patch_embed", "blocks", "norm"],
        "densenet121": ["stem", *numbered("denseblock", 4), "norm"],
        "vgg11": numbered("stage", 5),
        "inception_v3": numbered("stage", 5),
        "dla34": ["stem", *(f"level{number}" for number in range(6))],
        "xception41": ["stem", *numbered("block", 13)],
    }
    for name, stages in expected.items():
        cut = provider._cut(name)
        assert [*filter(None, [cut.plan.first]), *cut.plan.stages] == stages, name


def test_what_is_learned_about_places_belongs_to_a_stage():
    row = Backbone("timm/vit_small_patch14_reg4_dinov2", weights=None).stages
    first = {key.rpartition("network.")[2] for key, _ in row["patch_embed"].named_parameters()}
    assert first == {"cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert {"ls1.gamma", "ls2.gamma"} < {key for key, _ in row["block1"].named_parameters()}
    assert [key for key, _ in row["norm"].named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet10t", 150, (512, 5, 5)),
        ("swin_tiny_patch4_window7_224", 160, (768, 5, 5)),
        ("vit_tiny_patch16_224", 160, (101, 192)),
        ("vit_small_patch14_reg4_dinov2", 154, (126, 384)),
        ("vit_small_patch16_dinov3", 320, (405, 384)),
        ("vit_base_patch16_sapiens2", 512, (1033, 768)),
    ],
)
def test_shapes_at_another_size_than_the_weights_own(name, size, shape):
    with torch.device("meta"):
        backbone = Backbone(f"timm/{name}", weights=None)
    assert backbone.out_shape(size) == shape


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_dinov2"])
def test_position_embeddings_are_interpolated_as_timm_does_for_good(name, monkeypatch):
    network = untouched(name)
    backbone = backbone_with(network, name, monkeypatch)
    size = 5 * network.patch_embed.patch_size[0]
    network.set_input_size((size, size))  # timm's own way to a network of that size
    images = draw(size)
    with torch.no_grad():
        expected = network.forward_features(normalised(images, network))
        torch.testing.assert_close(backbone(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224"]
)
def test_at_the_weights_own_size_the_network_is_the_one_without_flags(name, monkeypatch):
    network = untouched(name)
    backbone = backbone_with(network, name, monkeypatch)
    images = draw(224, count=1)
    with torch.no_grad():
        features = network.forward_features(normalised(images, network))
        expected = network.forward_head(features, pre_logits=True)
        got = backbone.native_pool().eval()(backbone(images))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_swins_maps_have_their_channels_first_at_every_cut():
    backbone = Backbone("timm/swin_tiny_patch4_window7_224", weights=None)
    shapes = [backbone.split(stage)[0].out_shape(64) for stage in backbone.stage_names[1:]]
    assert shapes == [(96, 16, 16), (96, 16, 16), (192, 8, 8), (384, 4, 4), (768, 2, 2)]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_small_patch14_dinov2", 150, r"no multiple of 14: pass 140 or 154"),
        ("beit_base_patch16_224", 150, r"images of 224 × 224 alone, not 150: pass image_size=224"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_those_that_do(name, size, message):
    with pytest.raises(BackboneError, match=message):
        Backbone(f"timm/{name}", weights=None).out_shape(size)


def test_rotary_embeddings_need_square_images():
    backbone = Backbone("timm/eva02_tiny_patch14_224", weights=None)
    with pytest.raises(BackboneError, match=r"56 × 70 do not fit.*squares"):
        backbone(torch.zeros(1, 3, 56, 70))
    Backbone("timm/vit_tiny_patch16_224", weights=None)(torch.zeros(1, 3, 48, 64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "crossvit_tiny_240",
            r"timm/crossvit_tiny_240 is no row of stages.*cannot be cut: .* such as timm/convnext",
        ),
        ("xcit_nano_12_p16_224", "is no row of stages"),
        ("nasnetalarge", "is no row of stages"),
        ("resnet81", r"no network 'resnet81' in timm\. Nearest: resnet"),
        ("resnet18.imagenet", r"timm/resnet18 has no weights 'imagenet'.*wanted DEFAULT, a1_in1k, .*path of a"),
    ],
)
def test_what_cannot_be_a_backbone_is_told_before_anything_is_fetched(name, message):
    with pytest.raises(BackboneError, match=message) as caught:
        Backbone(f"timm/{name}")
    assert "\n" not in str(caught.value)


def test_what_is_named_instead_works():
    for name in provider.INSTEAD.replace(" or ", ", ").split(", "):
        assert Backbone(name, weights=None).stage_names


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(provider, "find_spec", lambda name: None)
    with pytest.raises(ExtraError, match=re.escape('pip install "lightning-transfer[timm]"')):
        Backbone("timm/resnet18", weights=None)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_small_patch16_dinov3"])
def test_saved_weights_are_a_file_with_timms_keys(name, tmp_path):
    backbone = Backbone(f"timm/{name}", weights=None)
    save_weights(backbone, tmp_path / "a.safetensors", {}, torch.float32)
    again = Backbone(f"timm/{name}", weights=str(tmp_path / "a.safetensors"))
    assert again.fingerprint() == backbone.fingerprint()


def parameters_of(name):
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters())


def is_row(name):
    try:
        return bool(provider._cut(name))
    except BackboneError:
        return False


@pytest.mark.nightly
def test_at_least_85_percent_of_timm_are_rows_of_stages(capsys):
    rows, all_of_them = Counter(), Counter()
    for name in timm.list_models():
        family = provider._family(name).rpartition(".")[2]
        rows[family] += is_row(name)
        all_of_them[family] += 1
    table = [f"{family}: {rows[family]} of {total}" for family, total in sorted(all_of_them.items())]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *table, f"all: {rows.total()} of {all_of_them.total()}", ""]))
    assert rows.total() >= 0.85 * all_of_them.total()


@pytest.mark.nightly
@pytest.mark.parametrize("family", sorted({provider._family(name) for name in timm.list_models()}))
def test_native_pooling_of_every_network_below_30_million_parameters(family, monkeypatch):
    for name in timm.list_models():
        if provider._family(name) == family and parameters_of(name) < 30e6 and is_row(name):
            cut = provider._cut(name)
            size = cut.fixed_size or max(cut.multiple, 128 // cut.multiple * cut.multiple)
            assert_native_pooling_is_timms(name, size, monkeypatch)
