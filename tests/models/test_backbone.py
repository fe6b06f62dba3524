"""What a backbone does, of whatever network; see providers/ for each of them."""

import itertools

import pytest
import torch

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError


def test_vgg16_at_150_is_the_books():
    backbone = Backbone("vgg16", weights=None)
    assert sum(p.numel() for p in backbone.parameters()) == 14_714_688
    assert backbone.out_shape(150) == (512, 4, 4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny"])
def test_each_cut_splits_without_a_copy(name):
    backbone = Backbone(name, weights=None).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole = backbone(images)
        for cut in backbone.stage_names:
            prefix, suffix = backbone.split(cut)
            assert torch.equal(suffix(prefix(images)), whole)
            assert (*prefix.stage_names, *dict(suffix.named_children())) == backbone.stage_names
            own = {id(p) for p in backbone.parameters()}
            assert {id(p) for p in (*prefix.parameters(), *suffix.parameters())} == own
    assert backbone.stage_names == Backbone(name, weights=None).stage_names, "split changed the backbone"


def test_until_keeps_the_stages_up_to_it():
    backbone = Backbone("vgg16", weights=None, last_stage="block3")
    assert backbone.stage_names == ("block1", "block2", "block3")
    assert backbone.out_shape(150) == (256, 18, 18)


def test_uint8_and_floating_images_give_the_same():
    torch.manual_seed(0)
    backbone = Backbone("squeezenet1_1", weights=None).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), backbone(images / 255), rtol=1e-3, atol=1e-4)


def test_out_shape_leaves_modes_and_statistics_alone():
    backbone = Backbone("resnet18", weights=None).train()
    backbone.stages["layer1"].eval()
    modes = [module.training for module in backbone.modules()]
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.out_shape(64)
    assert modes == [module.training for module in backbone.modules()]
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_fingerprint_stands_for_what_the_backbone_computes():
    torch.manual_seed(0)
    backbone = Backbone("resnet18", weights=None)
    torch.manual_seed(0)
    same = Backbone("resnet18", weights=None)
    assert backbone.fingerprint() == same.fingerprint() == backbone.train().fingerprint()
    prints = {
        backbone.fingerprint(),
        backbone.split("layer4")[0].fingerprint(),
        backbone.split("layer3")[0].fingerprint(),
    }
    for key in ("stages.layer4.1.conv2.weight", "stages.stem.bn1.running_mean", "normalise.std"):
        same.state_dict()[key][(0,) * same.state_dict()[key].ndim] += 1e-3
        prints.add(same.fingerprint())
    assert len(prints) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg61",), "no network 'vgg61' in torchvision. Nearest: vgg19, vgg16"),
        (("vit_b_61",), r"Nearest: vit_b_16"),
        (
            ("nobody/vgg16",),
            "no provider 'nobody/' for 'nobody/vgg16': wanted .* after timm/",
        ),
        (("vgg16", None, "block6"), r"vgg16 has no stage 'block6' \(did you mean block5\?\).*block1, block2"),
        (("vgg16", "IMAGENET1K"), "did you mean IMAGENET1K_V1"),
        (("vgg16", "https://example.org/vgg16.pth"), "wanted a local file"),
    ],
)
def test_what_is_unknown_is_named_with_its_neighbours(arguments, message):
    with pytest.raises(BackboneError, match=message):
        Backbone(*arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 64, 64), r"\(B, 3, H, W\), got \(3, 64, 64\)"),
        (torch.zeros(1, 1, 64, 64), r"got \(1, 1, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "got torch.int64"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(BackboneError, match=message):
        Backbone("squeezenet1_1", weights=None)(images)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(BackboneError, match="20 × 20 are too small for inception_v3"):
        Backbone("inception_v3", weights=None).out_shape(20)


def test_reductions_grow_along_the_row():
    for name, (size, _) in itertools.product(["vgg16", "resnet18", "mobilenet_v2"], [(224, None)]):
        backbone = Backbone(name, weights=None)
        heights = [backbone.split(stage)[0].out_shape(size)[1] for stage in backbone.stage_names]
        assert heights == sorted(heights, reverse=True)
