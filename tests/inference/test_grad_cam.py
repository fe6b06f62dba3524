"""Heat against Grad-CAM by hand, on every stage; and whether it lies on the animal, whose place is known.

Shapes: B batch, C channels, H W image, h w feature map, N samples.
"""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer, seed_everything
from torch import nn

import tiny_vit
from lightning_transfer import (
    FeatureClassifier,
    FineTuningClassifier,
    ImageClassifier,
    SketchPetsDataModule,
    StagedUnfreeze,
)
from lightning_transfer.errors import BackboneError, ExtraError, ModuleError
from lightning_transfer.inference.grad_cam import explained_stage, grad_cam
from lightning_transfer.training.classifier import Classifier

SIZE = 64
# VGG's, SqueezeNet's and ResNet's ReLUs write over their input; MobileNet's Hardswish, too.
BASES = (
    pytest.param("vgg11", marks=pytest.mark.nightly),
    *("squeezenet1_1", "resnet18", "mobilenet_v3_small"),
)


def classifier_on(backbone, module=Classifier, **arguments):
    torch.manual_seed(0)
    made = module(
        backbone=backbone, weights=None, num_classes=3, image_size=SIZE, pool="avg", hidden=16, **arguments
    )
    made.class_names = ("cats", "dogs", "horses")
    return ImageClassifier(made.eval())


def noise(samples=3):
    """Noise in patches, so that places differ."""
    patches = torch.rand(samples, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(patches, (SIZE, SIZE)) * 255).to(torch.uint8)


def by_hand(module, images, stage, targets):
    """Grad-CAM, with the backbone cut after the stage; not brought to [0, 1]."""
    names = module.backbone.stage_names
    index = names.index(stage)
    if index + 1 < len(names):
        prefix, suffix = module.backbone.split(names[index + 1])
    else:
        prefix, suffix = module.backbone, nn.Identity()
    with torch.no_grad():
        features = prefix(images)
    heats = []
    for feature, target in zip(features, targets, strict=True):
        leaf = feature[None].clone().requires_grad_()
        logit = module.head(suffix(leaf.clone()))[0, target]
        (gradient,) = torch.autograd.grad(logit, leaf)
        total = torch.zeros(feature.shape[1:])
        for channel in range(len(feature)):
            total += gradient[0, channel].mean() * feature[channel]
        heats.append(total.clamp(min=0))
    return F.interpolate(torch.stack(heats)[:, None], images.shape[-2:], mode="bilinear")[:, 0]


@pytest.mark.parametrize("backbone", BASES)
def test_heat_is_grad_cam_by_hand_on_every_stage(backbone):
    classifier = classifier_on(backbone)
    images = noise()
    predicted = classifier.probabilities(images).argmax(dim=1)
    hot = 0
    for stage in classifier.module.backbone.stage_names:
        for label, targets in ((None, predicted), ("cats", [0] * 3), ("horses", [2] * 3)):
            expected = by_hand(classifier.module, images, stage, targets)
            found = grad_cam(classifier, images, stage, label)
            assert found.shape == (3, SIZE, SIZE)
            assert found.dtype == torch.float32
            assert not found.requires_grad
            for place, hand in zip(found, expected, strict=True):
                if hand.max() > 0:
                    hot += 1
                    torch.testing.assert_close(place, hand / hand.max(), rtol=1e-3, atol=1e-4)
                else:
                    assert not place.any()
    assert hot > 3 * len(classifier.module.backbone.stage_names), "hardly anything to compare"


def test_a_frozen_backbone_has_the_same_heat():
    images = noise()
    frozen = classifier_on("mobilenet_v3_small", FeatureClassifier)
    assert not any(parameter.requires_grad for parameter in frozen.module.backbone.parameters())
    free = classifier_on("mobilenet_v3_small", FineTuningClassifier)
    assert all(parameter.requires_grad for parameter in free.module.backbone.parameters())
    for stage in (None, "block2"):
        found = grad_cam(frozen, images, stage, "dogs")
        assert found.any()
        torch.testing.assert_close(found, grad_cam(free, images, stage, "dogs"))


def test_the_default_is_the_last_stage_and_the_predicted_class():
    classifier = classifier_on("resnet18")
    images = noise(8)
    found = grad_cam(classifier, images)
    predicted = classifier.probabilities(images).argmax(dim=1).tolist()
    for image, index, place in zip(images, predicted, found, strict=True):
        (alone,) = grad_cam(classifier, image[None], "layer4", classifier.class_names[index])
        torch.testing.assert_close(place, alone, rtol=1e-3, atol=1e-4)


def test_images_in_uint8_and_in_floats_are_the_same():
    classifier = classifier_on("squeezenet1_1")
    images = noise()
    torch.testing.assert_close(
        grad_cam(classifier, images.float() / 255), grad_cam(classifier, images), rtol=1e-3, atol=1e-4
    )


def test_nothing_is_left_behind():
    classifier = classifier_on("resnet18")
    module = classifier.module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    images = noise()
    kept = images.clone()
    grad_cam(classifier, images)
    assert torch.equal(images, kept)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in module.modules())


def test_without_evidence_heat_is_nought_everywhere():
    classifier = classifier_on("resnet18")
    nn.init.zeros_(classifier.module.head.logits.weight)
    assert torch.equal(grad_cam(classifier, noise(2)), torch.zeros(2, SIZE, SIZE))


def test_a_image_without_evidence_leaves_the_others_their_heat():
    """One channel speaks for the class; Hardswish has it above nought in one image, below it in the other."""
    classifier = classifier_on("mobilenet_v3_small")
    head = classifier.module.head
    head.hidden, head.logits = nn.Identity(), nn.Linear(576, 3)
    images = torch.cat([noise(1), torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)])
    highest = classifier.module.backbone(images).amax(dim=(2, 3))
    channel = int(((highest[0] > 0) & (highest[1] < 0)).nonzero()[0])
    nn.init.zeros_(head.logits.weight)
    with torch.no_grad():
        head.logits.weight[1, channel] = 1.0
    expected = by_hand(classifier.module, images, "last_conv", [1, 1])
    assert [bool(place.any()) for place in expected] == [True, False]
    found = grad_cam(classifier, images, label="dogs")
    torch.testing.assert_close(found[0], expected[0] / expected[0].max(), rtol=1e-3, atol=1e-4)
    assert not found[1].any()


def vit_on(pool):
    torch.manual_seed(0)
    module = FineTuningClassifier(
        "tiny/vit", weights=None, num_classes=3, image_size=tiny_vit.SIZE, pool=pool, hidden=16
    )
    module.class_names = ("cats", "dogs", "horses")
    return ImageClassifier(module.eval())


def tokens_by_hand(module, images, stage, target):
    """Grad-CAM on the patches' tokens, by loops over places and features; the class token has no place."""
    names = module.backbone.stage_names
    leaf = tiny_vit.forward_by_hand(module.backbone, images)[stage].detach().requires_grad_()
    features = leaf
    for name in names[names.index(stage) + 1 :]:
        features = module.backbone.stages[name](features)
    (gradient,) = torch.autograd.grad(module.head(features)[:, target].sum(), leaf)
    heats = torch.zeros(len(images), 4, 4)
    for image, row, column in np.ndindex(*heats.shape):
        place = 1 + 4 * row + column
        for feature in range(tiny_vit.WIDTH):
            weight = sum(gradient[image, 1 + other, feature] for other in range(16)) / 16
            heats[image, row, column] += weight * leaf.detach()[image, place, feature]
    return F.interpolate(heats.clamp(min=0)[:, None], images.shape[-2:], mode="bilinear")[:, 0]


@pytest.mark.parametrize("pool", ["native", "avg"])
def test_on_tokens_it_is_grad_cam_of_the_patches_as_a_map(pool):
    classifier = vit_on(pool)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    hot = 0
    for stage in tiny_vit.STAGES:
        expected = tokens_by_hand(classifier.module, images, stage, 1)
        for place, hand in zip(grad_cam(classifier, images, stage, "dogs"), expected, strict=True):
            if hand.max() > 1e-9:
                hot += 1
                torch.testing.assert_close(place, hand / hand.max(), rtol=1e-3, atol=1e-4)
            else:
                assert not place.any()
    # The class token takes nothing from the patches after the last block.
    assert hot == {"native": 4, "avg": 8}[pool]
    assert explained_stage(classifier) == {"native": "block1", "avg": "norm"}[pool]
    default = grad_cam(classifier, images, None, "dogs")
    assert torch.equal(default, grad_cam(classifier, images, explained_stage(classifier), "dogs"))
    assert default.flatten(1).any(dim=1).all()
    assert not any(part._forward_hooks for part in classifier.module.modules())


def test_an_unknown_stage_lists_the_stages():
    with pytest.raises(BackboneError, match=r"no stage 'layer5' \(did you mean layer4\?\): .*stem, layer1"):
        grad_cam(classifier_on("resnet18"), noise(), stage="layer5")


def test_an_unknown_class_lists_the_classes():
    with pytest.raises(
        ModuleError, match=r"no class 'dog' \(did you mean dogs\?\): its classes are cats, dogs, h"
    ):
        grad_cam(classifier_on("resnet18"), noise(), label="dog")


def test_without_captum_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ExtraError, match=r'pip install "lightning-transfer\[explain\]"'):
        grad_cam(classifier_on("squeezenet1_1"), noise())


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    samples = {"train": 400, "validation": 1, "test": 150}
    root = str(tmp_path_factory.mktemp("explanation") / "pets")
    data = SketchPetsDataModule(root, samples, batch_size=20, augmentation=None, num_workers=0)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def trained(pets):
    """Two epochs of fine-tuning the whole bundled backbone; on the frozen one the head alone stays below 80 %."""
    seed_everything(0, verbose=False)
    model = FineTuningClassifier("mobilenet_v3_small", weights="bundled", pool="avg", lr=1e-3)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[StagedUnfreeze({0: ["head", *model.backbone.stage_names]})],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, pets)
    return ImageClassifier(model.eval())


def hottest_places(classifier, pets):
    """(N, 2): x and y of the maximum of each test image's heat, in pixels."""
    found = []
    for images, _ in pets.test_dataloader():
        places = grad_cam(classifier, images)
        assert places.flatten(1).any(dim=1).all(), "an image without heat has no hottest place"
        y, x = np.divmod(places.flatten(1).argmax(dim=1).numpy(), images.shape[-1])
        found.append(np.column_stack([x, y]))
    return np.concatenate(found)


def inside(places, boxes):
    return ((boxes[:, :2] <= places) & (places < boxes[:, 2:])).all(axis=1)


def shares(classifier, pets):
    """How often the hottest place lies in the image's box, and in another image's; then the same of those
    boxes alone that leave out the image's middle, where a blind guess would be."""
    boxes = np.array([pets.boxes[path] for path in pets.dataset("test").samples.paths])
    places = hottest_places(classifier, pets)
    others = np.random.default_rng(0).permutation(len(boxes))
    middle = np.full((len(boxes), 2), pets.image_size // 2)
    aside = ~inside(middle, boxes)
    assert 30 < aside.sum() < len(boxes) / 3
    hits, chance = inside(places, boxes), inside(places[others], boxes)
    return hits.mean(), chance.mean(), hits[aside].mean(), chance[aside].mean()


@pytest.mark.nightly
def test_the_hottest_place_lies_on_the_animal(trained, pets):
    hits, chance, hits_aside, chance_aside = shares(trained, pets)
    assert hits >= 0.8
    # Boxes take 0.43 of an image, and four of five hold its middle, so chance is far above 0.
    assert chance < hits - 0.15
    assert hits_aside > 2 * chance_aside
    untrained = []
    for seed in range(4):
        seed_everything(seed, verbose=False)
        model = FeatureClassifier(
            "mobilenet_v3_small", weights=None, num_classes=2, image_size=pets.image_size, pool="avg"
        )
        untrained.append(shares(ImageClassifier(model.eval()), pets))
    blind, _, blind_aside, _ = np.mean(untrained, axis=0)
    assert blind < hits - 0.1
    assert blind_aside < hits_aside - 0.2
