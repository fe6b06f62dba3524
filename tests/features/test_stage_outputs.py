"""stage_outputs against hand-written loops over torchvision's own networks."""

import pytest
import torch
import torchvision
from torchvision import models

from lightning_transfer import Backbone, ImageFolderDataModule
from lightning_transfer.data.decoding import load_image, resize_image, to_tensor
from lightning_transfer.errors import BackboneError
from lightning_transfer.features.stage_outputs import StageOutputs, stage_outputs

SIZE = 64
# What closes each of SqueezeNet's stages, by its place in torchvision's `features`.
LAST_LAYERS = {"stem": 2, "fire2": 3, "fire3": 5, "fire4": 6, "fire5": 8, "fire6": 9, "fire7": 10, "fire8": 11}


@pytest.fixture
def images(image_folder):
    images = ImageFolderDataModule(str(image_folder), image_size=SIZE, batch_size=5, num_workers=0)
    images.setup()
    return images


def by_hand(weights_file, images, split):
    network = models.squeezenet1_1(weights=None).features.eval()
    state = torch.load(weights_file, weights_only=True)
    network.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    rows = []
    for path in images.dataset(split).samples.paths:
        image = to_tensor(resize_image(load_image(images.root / path), SIZE, "squash"))
        features, pooled = normalise(image[None] / 255), []
        with torch.no_grad():
            for layer in network:
                features = layer(features)
                pooled.append(features[0].flatten(1).mean(dim=1))
        rows.append([pooled[place] for place in (*LAST_LAYERS.values(), len(network) - 1)])
    return [torch.stack(stage) for stage in zip(*rows, strict=True)]


def test_every_stage_is_what_a_hand_written_loop_gives(images, weights_file, quiet_trainer):
    backbone = Backbone("squeezenet1_1", str(weights_file))
    outputs = stage_outputs(quiet_trainer(), backbone, images, ("train", "validation"))
    assert backbone.stage_names == (*LAST_LAYERS, "fire9")
    assert backbone.training, "the mode is restored"
    for split, count in (("train", 24), ("validation", 12)):
        for found, expected in zip(outputs[split], by_hand(weights_file, images, split), strict=True):
            assert found.shape[0] == count
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_each_image_goes_through_the_backbone_once(images, quiet_trainer, monkeypatch):
    seen = []
    forward = StageOutputs.forward
    monkeypatch.setattr(StageOutputs, "forward", lambda self, x: (seen.extend(x), forward(self, x))[1])
    backbone = Backbone("squeezenet1_1", weights=None)
    stage_outputs(quiet_trainer(), backbone, images, ("validation", "train"))
    expected = [image for split in ("validation", "train") for image, _ in images.dataset(split)]
    assert torch.equal(torch.stack(seen), torch.stack(expected))


def test_in_bf16_the_averages_are_float32(images, weights_file, quiet_trainer):
    backbone = Backbone("squeezenet1_1", str(weights_file))
    outputs = stage_outputs(quiet_trainer(precision="bf16-mixed"), backbone, images, ("validation",))
    for found, expected in zip(outputs["validation"], by_hand(weights_file, images, "validation"), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02 * expected.abs().max().item())


def test_the_last_stage_is_the_backbones_output():
    backbone = Backbone("mobilenet_v3_small", "bundled").eval()
    image_folder = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            StageOutputs(backbone)(image_folder)[-1], backbone(image_folder).mean(dim=(2, 3))
        )


def test_weights_that_are_not_finite_are_named(images, quiet_trainer):
    backbone = Backbone("squeezenet1_1", weights=None)
    with torch.no_grad():
        backbone.stages["fire4"][0].squeeze.bias.fill_(torch.nan)
    with pytest.raises(BackboneError, match="squeezenet1_1 gives numbers that are not finite in fire4"):
        stage_outputs(quiet_trainer(), backbone, images, ("train",))
