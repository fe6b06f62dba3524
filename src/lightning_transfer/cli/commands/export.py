"""`lightning-transfer export`: a trained network as one file that needs this library no more.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.export import ExportedProgram

from lightning_transfer.data.decoding import Resize
from lightning_transfer.errors import ExtraError, ModuleError, OutputError
from lightning_transfer.inference.prediction import ImageClassifier, load_classifier
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.utils.files import checked_output, whole_file

Format = Literal["onnx", "torch_export"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
RESIZING: dict[Resize, str] = {
    "squash": "to {0} × {0}, whatever the aspect ratio",
    "crop": "until the shorter side has {0}, the middle {0} × {0} cut out",
}


class Probabilities(nn.Module):
    """A module whose forward gives probabilities, for what only knows `forward`."""

    def __init__(self, module: Classifier) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Compute (B, K) float32 probabilities of (B, 3, H, W) uint8 images."""
        return self.module.task.probabilities(self.module(images))


def export(
    checkpoint: str,
    format: Format = "onnx",  # noqa: A002  # the flag is called so
    out: str | None = None,
    overwrite: bool = False,
    allow_import: Sequence[str] = (),
) -> Path:
    """Write a checkpoint's network as a file for onnxruntime or torch.export: images in, probabilities out.

    Images are (B, 3, H, W) uint8, RGB, of the size and resizing that the file's metadata name; the normalisation
    is inside. Class names are in the metadata, too.

    Args:
        checkpoint: A file that fit saved, of any regime.
        format: "onnx", which needs the extra `export`; or "torch_export", which torch.export.load reads.
        out: The file; the checkpoint's name with .onnx or .pt2, beside it, where it is not given.
        overwrite: Whether a file that is there may be replaced.
        allow_import: A package to trust with whatever its code does, where a class of its own made the checkpoint.

    Returns:
        The file.

    Raises:
        ModuleError: The checkpoint cannot be used, or was trained on images resized in some other way.
        OutputError: `out` is there, cannot be written or is called as the other format's files are.
        ExtraError: A library that writes ONNX is not installed.
    """
    _check_format(format, out)
    classifier = load_classifier(checkpoint, allow_import=allow_import)
    target = checked_output(Path(checkpoint).with_suffix(SUFFIXES[format]) if out is None else out, overwrite)
    metadata = _metadata(classifier)
    program = _program(classifier)
    with whole_file(target) as beside:
        if format == "onnx":
            _write_onnx(program, metadata, beside)
        else:
            # An open file, since torch wants names to end in .pt2.
            with beside.open("wb") as file:
                torch.export.save(program, file, extra_files=metadata)
    size, names = classifier.image_size, classifier.class_names
    Console(soft_wrap=True).print(
        f"{target}: images (B, 3, {size}, {size}) uint8 to probabilities (B, {len(names)}) float32; classes "
        f"{textwrap.shorten(', '.join(names), 80, placeholder=' …')}; {target.stat().st_size:,} bytes",
        highlight=False,
        markup=False,
    )
    return target


def _check_format(form: Format, out: str | None) -> None:
    if form not in SUFFIXES:
        raise OutputError(f"format={form!r}: wanted one of {', '.join(SUFFIXES)}.")
    for other, suffix in SUFFIXES.items():
        if other != form and out is not None and out.endswith(suffix):
            raise OutputError(
                f"{out} is called as a file of {other}, and would be one of {form}: pass --format {other}, or an "
                f"--out that ends in {SUFFIXES[form]}."
            )
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None] if form == "onnx" else []
    if missing:
        raise ExtraError(
            f"The format onnx needs {' and '.join(missing)}, not installed here: "
            'pip install "lightning-transfer[export]", or pass --format torch_export, which needs neither.'
        )


def _program(classifier: ImageClassifier) -> ExportedProgram:
    network = Probabilities(classifier.module).eval().requires_grad_(False)
    # torch.export.save knows only weights that are contiguous as whole ones; the images' layout stays.
    network.to(memory_format=torch.contiguous_format)
    images = torch.zeros((2, 3, classifier.image_size, classifier.image_size), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (images,), dynamic_shapes={"images": {0: batch}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which are nobody's business
    return program


def _metadata(classifier: ImageClassifier) -> dict[str, str]:
    size, resize = classifier.image_size, classifier.resize
    if resize not in RESIZING:
        raise ModuleError(f"The checkpoint has resize={resize!r}: wanted one of {', '.join(RESIZING)}.")
    return {
        "class_names": json.dumps(classifier.class_names),
        "image_size": str(size),
        "resize": resize,
        "pixels": f"RGB, uint8 from 0 to 255, channels first; resized {RESIZING[resize].format(size)} (bilinear, "
        "antialiased)",
    }


def _write_onnx(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    written = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes={"images": {0: "batch"}},  # its name in the file
        external_data=False,
        verbose=False,
    )
    assert written is not None, "torch.onnx.export has returned no program"
    written.model.metadata_props.update(metadata)
    written.save(path, external_data=False)
