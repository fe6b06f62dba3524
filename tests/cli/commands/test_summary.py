"""The layer table, against torchvision's own networks."""

import pytest
import torch
from torchvision import models

import tiny_vit
from lightning_transfer.cli.commands.summary import summary
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.providers.torchvision import PROVIDER

# What each stands for beside its convolutional part, by torchvision's own names.
CLASSIFIERS = {
    "resnet18": ("fc",),
    "convnext_tiny": ("classifier",),
    "densenet121": ("classifier",),
    "mobilenet_v3_small": ("classifier",),
    "googlenet": ("fc", "aux1", "aux2"),
    "efficientnet_b0": ("classifier",),
}

VGG16 = """
    block1_conv1 64×150×150      1,792    block1_conv2 64×150×150     36,928    block1_pool  64×75×75            0
    block2_conv1 128×75×75      73,856    block2_conv2 128×75×75     147,584    block2_pool  128×37×37           0
    block3_conv1 256×37×37     295,168    block3_conv2 256×37×37     590,080    block3_conv3 256×37×37     590,080
    block3_pool  256×18×18           0    block4_conv1 512×18×18   1,180,160    block4_conv2 512×18×18   2,359,808
    block4_conv3 512×18×18   2,359,808    block4_pool  512×9×9             0    block5_conv1 512×9×9     2,359,808
    block5_conv2 512×9×9     2,359,808    block5_conv3 512×9×9     2,359,808    block5_pool  512×4×4             0
"""


@pytest.fixture(scope="module", autouse=True)
def networks_without_numbers():
    """A summary needs none; drawing VGG16's takes seconds."""
    build = PROVIDER.build

    def build_on_meta(name):
        with torch.device("meta"):
            return build(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PROVIDER, "build", build_on_meta)
        yield


def vgg16_rows():
    fields = iter(VGG16.split())
    for name, shape, count in zip(fields, fields, fields, strict=True):
        yield name, tuple(map(int, shape.split("×"))), int(count.replace(",", ""))


def test_vgg16_at_150_is_the_books_table():
    rows = [row for row in summary("vgg16", image_size=150) if row.type != "ReLU"]
    assert [(row.name, row.shape, row.parameters) for row in rows] == list(vgg16_rows())
    assert {row.type for row in rows} == {"Conv2d", "MaxPool2d"}
    assert sum(row.parameters for row in rows) == 14_714_688


def test_the_printed_table_holds_names_shapes_and_numbers(capsys):
    summary("vgg16", train_from="block5")
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["vgg16", "at", "150", "×", "150"] in lines
    for name, shape, parameters in vgg16_rows():
        kind = "Conv2d" if parameters else "MaxPool2d"
        assert [name, kind, "×".join(map(str, shape)), f"{parameters:,}"] in lines
    assert ["total", "512×4×4", "14,714,688"] in lines
    assert ["trainable", "7,079,424"] in lines
    assert ["not", "trainable", "7,635,264"] in lines


@pytest.mark.parametrize("depth", ["stage", "block", "layer"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_rows_parameters_sum_to_torchvisions(name, depth):
    network = PROVIDER.build(name)
    expected = sum(
        p.numel() for key, p in network.named_parameters() if key.split(".")[0] not in CLASSIFIERS[name]
    )
    rows = summary(name, image_size=96, depth=depth)
    assert sum(row.parameters for row in rows) == sum(row.trainable for row in rows) == expected
    assert len({row.name for row in rows}) == len(rows)


def test_depth_goes_from_stages_over_blocks_to_layers():
    names = {
        depth: [row.name for row in summary("resnet18", depth=depth)] for depth in ("stage", "block", "layer")
    }
    assert names["stage"] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert names["block"][:4] == ["stem_conv1", "stem_bn1", "stem_relu", "stem_maxpool"]
    assert names["block"][4:] == [f"layer{i}_{block}" for i in (1, 2, 3, 4) for block in (0, 1)]
    assert {"layer1_0_conv1", "layer4_1_bn2", "layer2_0_downsample_0"} <= set(names["layer"])
    # torchvision's ResNet-18 has 20 convolutions and as many normalisations.
    types = [row.type for row in summary("resnet18", depth="layer")]
    assert (types.count("Conv2d"), types.count("BatchNorm2d")) == (20, 20)


@pytest.mark.parametrize(
    ("train_from", "trainable"),
    [(None, 14_714_688), ("block1", 14_714_688), ("block4", 12_979_200), ("block5", 7_079_424)],
)
def test_train_from_counts_the_stages_before_it_as_frozen(train_from, trainable):
    rows = summary("vgg16", train_from=train_from, depth="stage")
    assert sum(row.trainable for row in rows) == trainable
    for row in rows:
        assert row.trainable == (row.parameters if row.name >= (train_from or "") else 0)


def test_until_ends_the_table():
    rows = summary("vgg16", last_stage="block4", depth="stage")
    assert [row.name for row in rows] == ["block1", "block2", "block3", "block4"]
    assert rows[-1].shape == (512, 9, 9)


@pytest.mark.parametrize("depth", ["block", "layer"])
def test_shapes_are_those_of_torchvisions_features(depth):
    features = models.get_model("mobilenet_v3_small", weights=None).to("meta").features
    expected = features(torch.empty(1, 3, 96, 96, device="meta")).shape[1:]
    assert summary("mobilenet_v3_small", image_size=96, depth=depth)[-1].shape == tuple(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vgg61"}, "no network 'vgg61' in torchvision"),
        ({"train_from": "block6"}, "vgg16 has no stage 'block6'"),
        ({"last_stage": "layer1"}, "vgg16 has no stage 'layer1'"),
        (
            {"last_stage": "block3", "train_from": "block4"},
            "vgg16 has no stage 'block4'.*: its stages are .*block3",
        ),
        ({"image_size": 8}, "8 × 8 are too small for vgg16"),
    ],
)
def test_what_is_unknown_or_too_small_is_told_and_nothing_printed(arguments, message, capsys):
    with pytest.raises(BackboneError, match=message):
        summary(**arguments)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("depth", ["stage", "block", "layer"])
def test_tokens_are_told_from_maps_and_each_number_is_counted_once(depth, capsys):
    rows = summary("tiny/vit", depth=depth)
    network = tiny_vit.TinyProvider().build("vit")
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters()) - 17 * 1000
    assert rows[-1].shape == (17, 16)
    said = capsys.readouterr().out
    assert "tiny/vit at 32 × 32" in said
    assert "17 tokens × 16" in said
    if depth == "layer":
        assert {row.name: row.shape for row in rows}["patch_embed_proj"] == (16, 4, 4)


def test_where_no_size_is_given_it_is_the_weights_own_and_the_books_for_vgg16(capsys):
    for backbone, size in {"vgg16": 150, "mobilenet_v3_small": 150, "resnet18": 224}.items():
        summary(backbone, depth="stage")
        assert f"{backbone} at {size} × {size}" in capsys.readouterr().out
    with pytest.raises(BackboneError, match=r"image_size=150 is no multiple of 8: pass 144 or 152\."):
        summary("tiny/vit", image_size=150)
