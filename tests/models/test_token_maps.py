"""Tokens as maps against a loop over rows and columns, and the tiny transformer that tests of tokens go by."""

import pytest
import torch

from lightning_transfer import Backbone, Head, TransferNetwork
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.native_size import check_size, native_size, usual_size
from lightning_transfer.models.stage_sizes import StageSize, stage_sizes
from lightning_transfer.models.token_maps import as_map, as_tokens
from tiny_vit import STAGES, forward_by_hand


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_each_patch_is_at_its_place(prefix):
    tokens = torch.randn(2, prefix + 9, 4)
    found = as_map(tokens, prefix)
    for row in range(3):
        for column in range(3):
            assert torch.equal(found[:, :, row, column], tokens[:, prefix + 3 * row + column])
    assert torch.equal(as_tokens(found, tokens[:, :prefix]), tokens)


def test_a_map_stays_and_what_is_neither_is_refused():
    features = torch.randn(2, 4, 3, 5)
    assert as_map(features, 1) is features
    with pytest.raises(BackboneError, match="10 tokens, 0 of them before the patches', make no square map"):
        as_map(torch.zeros(2, 10, 4))
    with pytest.raises(BackboneError, match=r"got features of shape \(2, 4\)"):
        as_map(torch.zeros(2, 4))


def test_a_stages_size_is_counted_as_by_hand():
    """T tokens of D features: projections, attention weights and their sums, and the MLP of width 32."""
    t, d, wide = 17, 16, 32
    block = 2 * t * d * 4 * d + 2 * 2 * t * t * d + 2 * 2 * t * d * wide
    numbers = 4 * d * d + 4 * d + 2 * d * wide + d + wide + 4 * d
    assert stage_sizes(Backbone("tiny/vit", None), 32) == [
        StageSize("patch_embed", (17, 16), 3 * 64 * d + d + d + 17 * d, 2 * 16 * d * 3 * 64),
        StageSize("block1", (17, 16), numbers, block),
        StageSize("block2", (17, 16), numbers, block),
        StageSize("norm", (17, 16), 2 * d, 0),
    ]
    assert stage_sizes(Backbone("tiny/vit", None), 48)[-1].shape == (37, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_from_the_tokens_of_any_stage(dtype):
    backbone = Backbone("tiny/vit", None)
    network = TransferNetwork(backbone, Head((17, 16), 3, "class_token+avg", 8, prefix_tokens=1)).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        stages = forward_by_hand(backbone, images)
        last = stages["norm"]
        expected = network.head.logits(network.head.hidden(torch.cat([last[:, 0], last[:, 1:].mean(1)], dim=1)))
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
        loose = {"rtol": 1e-4, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
        for before, stage in zip(STAGES, (*STAGES[1:], "head"), strict=True):
            torch.testing.assert_close(network.forward_from(stage, stages[before].to(dtype)), expected, **loose)


def test_sizes_are_known_without_weights():
    assert native_size("tiny/vit") == Backbone("tiny/vit", None).native_size == 32
    assert (native_size("inception_v3"), native_size("resnet18", "nowhere.pth")) == (299, 224)
    assert (usual_size("vgg16"), usual_size("mobilenet_v3_small", "bundled"), usual_size("tiny/vit")) == (
        150,
        150,
        32,
    )
    with pytest.raises(BackboneError, match="no weights 'V9'"):
        usual_size("resnet18", "V9")
    check_size("tiny/vit", 40)
    with pytest.raises(BackboneError, match=r"image_size=150 is no multiple of 8: pass 144 or 152\."):
        check_size("tiny/vit", 150)
    with pytest.raises(BackboneError, match="5 × 5 are too small for squeezenet1_1"):
        check_size("squeezenet1_1", 5)
