"""An exported file says the same of images as the checkpoint, in onnxruntime and in a reloaded program."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from lightning.pytorch import Trainer
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from torch import nn
from torch.utils._sympy.numbers import int_oo

import lightning_transfer
import tiny_networks  # noqa: F401  # makes "small/vit_xs" known
from conftest import draw_image
from lightning_transfer import FeatureClassifier, load_classifier
from lightning_transfer.cli.commands.export import export
from lightning_transfer.errors import ModuleError, OutputError

SIZE = 64
NAMES = ("cats", "dogs", "Übrige, und mehr")
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}
FORMATS = pytest.mark.parametrize("form", SUFFIXES)


def liven(module):
    """Numbers as a trained network's: BatchNorm knows its images, and logits differ from one to the other."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randint(0, 256, (32, 3, 1, 1), generator=generator)
    noise = torch.randint(-60, 60, (32, 3, SIZE, SIZE), generator=generator)
    images = (colours + noise).clamp(0, 255).to(torch.uint8)
    norms = [part for part in module.backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    last = module.head.logits
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.3, generator=generator)
            norm.momentum = None
        module.train()(images)
        logits = module.eval()(images)
        last.weight /= logits.std(dim=0)[:, None]
        last.bias.copy_((last.bias - logits.mean(dim=0)) / logits.std(dim=0))
    assert last.weight.abs().max() < 100, "the last layer would blow up the noise of single precision"


def save(path, backbone="squeezenet1_1", pool="avg", resize="squash"):
    torch.manual_seed(0)
    module = FeatureClassifier(
        backbone=backbone,
        weights=None,
        num_classes=len(NAMES),
        image_size=SIZE,
        pool=pool,
        hidden=16,
        audit_freezing=False,
    )
    liven(module)
    module.class_names, module.resize = NAMES, resize
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of the smallest network. Not to be changed."""
    return save(tmp_path_factory.mktemp("trained") / "model.ckpt")


@pytest.fixture(scope="module")
def exported(checkpoint):
    """What becomes of it, by format, beside it and under its name."""
    return {form: export(str(checkpoint), form) for form in SUFFIXES}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five images of several colours and sizes."""
    folder = tmp_path_factory.mktemp("drawn")
    colours = [(200, 90, 60), (60, 120, 200), (90, 200, 90), (20, 20, 20), (240, 230, 60)]
    for number, colour in enumerate(colours):
        draw_image(folder / f"{number}.jpg", colour, number, size=(70 + 10 * number, 90))
    return sorted(folder.glob("*.jpg"))


def runner(path, form):
    """A function from uint8 images to probabilities that knows nothing of this library."""
    if form == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(["probabilities"], {"images": images.numpy()})[0]
    network = torch.export.load(path).module()
    return lambda images: network(images).numpy()


def metadata(path, form):
    if form == "onnx":
        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    found = dict.fromkeys(("class_names", "image_size", "resize", "pixels"), "")
    torch.export.load(path, extra_files=found)
    return found


@pytest.mark.parametrize(
    ("form", "backbone", "pool"),
    [
        ("onnx", "resnet18", "avg"),
        ("torch_export", "vgg11", "flatten"),
        ("onnx", "small/vit_xs", "class_token+avg"),
        ("onnx", "small/swin_xs", "native"),
        ("onnx", "small/convnext_xs", "native"),
        pytest.param("torch_export", "small/vit_xs", "native", marks=pytest.mark.nightly),
        pytest.param("onnx", "small/maxvit_xs", "native", marks=pytest.mark.nightly),
        pytest.param("onnx", "small/swin_v2_xs", "native", marks=pytest.mark.nightly),
        pytest.param("onnx", "vit_b_32", "native", marks=pytest.mark.nightly),
        pytest.param("onnx", "vgg11", "flatten", marks=pytest.mark.nightly),
        pytest.param("onnx", "mobilenet_v3_small", "flatten", marks=pytest.mark.nightly),
        pytest.param("torch_export", "resnet18", "avg", marks=pytest.mark.nightly),
        pytest.param("torch_export", "mobilenet_v3_small", "flatten", marks=pytest.mark.nightly),
    ],
)
def test_the_file_gives_the_checkpoints_probabilities(form, backbone, pool, files, tmp_path):
    checkpoint = save(tmp_path / "model.ckpt", backbone, pool)
    classifier = load_classifier(checkpoint)
    images = torch.stack([classifier.images(files).read(file) for file in files])
    expected = classifier.probabilities(images).numpy()
    assert np.ptp(expected, axis=0).min() > 0.1, "all images are alike to this network"

    run = runner(export(str(checkpoint), form), form)
    for number in (5, 1, 3):
        found = run(images[:number])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:number], rtol=0, atol=1e-4)


@FORMATS
def test_the_file_says_what_goes_in_and_comes_out(form, exported):
    found = metadata(exported[form], form)
    assert json.loads(found["class_names"]) == list(NAMES)
    assert (found["image_size"], found["resize"]) == (str(SIZE), "squash")
    for word in ("RGB", "uint8", "to 64 × 64", "bilinear"):
        assert word in found["pixels"]
    run = runner(exported[form], form)
    for other in (32, 65):
        with pytest.raises((AssertionError, InvalidArgument), match=r"invalid dimensions|Guard failed"):
            run(torch.zeros((1, 3, other, other), dtype=torch.uint8))


def test_the_file_says_how_images_are_cropped(tmp_path):
    path = export(str(save(tmp_path / "model.ckpt", resize="crop")), "torch_export")
    found = metadata(path, "torch_export")
    assert found["resize"] == "crop"
    assert "the middle 64 × 64 cut out" in found["pixels"]


def test_onnx_names_its_input_and_output_and_holds_the_weights(exported):
    path = exported["onnx"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (images,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, SIZE, SIZE])
    assert (probabilities.name, probabilities.type) == ("probabilities", "tensor(float)")
    assert probabilities.shape == ["batch", len(NAMES)]
    assert {beside.name for beside in path.parent.iterdir()} == {"model.ckpt", "model.onnx", "model.pt2"}
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_the_program_takes_any_number_of_images_and_wants_no_gradients(exported):
    program = torch.export.load(exported["torch_export"])
    assert [(limits.lower, limits.upper == int_oo) for limits in program.range_constraints.values()] == [(1, True)]
    assert not program.module()(torch.zeros((1, 3, SIZE, SIZE), dtype=torch.uint8)).requires_grad


@FORMATS
def test_no_path_of_this_machine_is_in_the_file(form, exported):
    content = exported[form].read_bytes()
    for package in (lightning_transfer, torch):
        assert str(Path(package.__file__).parent).encode() not in content
    assert str(exported[form].parent).encode() not in content


@FORMATS
def test_on_the_command_line_it_says_so_in_one_line(form, checkpoint, command, capfd, tmp_path):
    target = tmp_path / f"mine{SUFFIXES[form]}"
    target.write_text("precious")
    arguments = ["export", checkpoint, "--format", form, "--out", target.name]
    assert command(*arguments) == 1
    assert "is there already: pass --overwrite" in capfd.readouterr().err
    assert target.read_text() == "precious"

    assert command(*arguments, "--overwrite") == 0
    out, err = capfd.readouterr()
    (line,) = out.splitlines()
    size = f"{target.stat().st_size:,} bytes"
    for part in (target.name, "(B, 3, 64, 64) uint8", "(B, 3) float32", ", ".join(NAMES), size):
        assert part in line
    assert err == ""
    assert metadata(target, form)["image_size"] == str(SIZE)
    assert list(tmp_path.iterdir()) == [target]


@FORMATS
def test_a_failed_export_leaves_nothing_behind_and_the_old_file_alone(form, checkpoint, monkeypatch, tmp_path):
    def broken(*arguments, **options):
        (half,) = tmp_path.glob("*.part") if form == "torch_export" else arguments[1:]
        half.write_bytes(b"half")
        raise OSError("the disk is full")

    place = torch.onnx.ONNXProgram if form == "onnx" else torch.export
    monkeypatch.setattr(place, "save", broken)
    old = tmp_path / f"mine{SUFFIXES[form]}"
    old.write_text("precious")
    with pytest.raises(OSError, match="the disk is full"):
        export(str(checkpoint), form, str(old), overwrite=True)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "precious"


def test_without_the_extra_it_says_how_to_get_it(checkpoint, monkeypatch, command, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert command("export", checkpoint, "--out", "mine.onnx") == 1
    error = " ".join(capsys.readouterr().err.split())
    assert 'needs onnxscript, not installed here: pip install "lightning-transfer[export]"' in error
    assert not list(tmp_path.iterdir())
    assert command("export", checkpoint, "--format", "torch_export", "--out", "mine.pt2") == 0


def test_what_cannot_be_is_told_and_nothing_written(checkpoint, tmp_path):
    with pytest.raises(ModuleError, match=r"There is no checkpoint nowhere/model\.ckpt"):
        export("nowhere/model.ckpt")
    with pytest.raises(OutputError, match=r"format='tflite': wanted one of onnx, torch_export"):
        export(str(checkpoint), "tflite")
    with pytest.raises(OutputError, match=r"m\.pt2 is called as a file of torch_export.*--format torch_export"):
        export(str(checkpoint), out=str(tmp_path / "m.pt2"))
    odd = save(tmp_path / "odd.ckpt", resize="letterbox")
    with pytest.raises(ModuleError, match="resize='letterbox': wanted one of squash, crop"):
        export(str(odd))
    assert list(tmp_path.iterdir()) == [odd]
