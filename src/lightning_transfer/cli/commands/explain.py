"""`lightning-transfer explain`: an image, and beside it where in it the network found what speaks for a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lightning_transfer.data.datamodule import OnBadImage
from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.errors import OutputError
from lightning_transfer.inference.grad_cam import explained_stage, grad_cam
from lightning_transfer.inference.prediction import load_classifier
from lightning_transfer.monitoring.figures import figure_formats, heat_overlay
from lightning_transfer.utils.files import checked_output, whole_file


def explain(
    checkpoint: str,
    image: str,
    out: str = "heat.png",
    stage: str | None = None,
    label: str | None = None,
    overwrite: bool = False,
    max_pixels: int | None = None,
    on_bad_image: OnBadImage = "error",
    allow_import: Sequence[str] = (),
) -> Path | None:
    """Draw an image, and beside it Grad-CAM's heat: which places speak for a class.

    Args:
        checkpoint: A file that fit saved, of any regime.
        image: Its file.
        out: The figure; its suffix says in which format.
        stage: One of the backbone's stages; where it is not given, the last one whose places the logits depend on.
        label: The class to explain; the predicted one where it is not given.
        overwrite: Whether a file that is there may be replaced.
        max_pixels: Largest height times width of a file; the checkpoint's, as in training, where it is not given.
        on_bad_image: What becomes of an image that cannot be read: "error" ends with an error, "skip" says so and
            draws nothing.
        allow_import: A package to trust with whatever its code does, where a class of its own made the checkpoint.

    Returns:
        The figure's file; None where the image was left out.

    Raises:
        ModuleError: The checkpoint cannot be used, or its network has no such class.
        BackboneError: The backbone has no such stage.
        DataError: The image cannot be read, and on_bad_image is "error".
        OutputError: `out` is there, cannot be written, or its suffix is of no format that is known.
        ExtraError: captum is not installed.
    """
    target = checked_output(out, overwrite)
    suffix = target.suffix.lower().removeprefix(".")
    if suffix not in figure_formats():
        raise OutputError(f"{target}: wanted a suffix that says the format: {', '.join(figure_formats())}.")
    classifier = load_classifier(checkpoint, allow_import=allow_import, max_pixels=max_pixels)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    file = Path(image)
    try:
        pixels = classifier.images([file]).read(file)
    except UnreadableImageError as error:
        if on_bad_image == "error":
            raise
        console.print(f"Left out: {error}")
        return None
    (prediction,) = classifier.classify([image])
    explained = prediction.label if label is None else label
    stage = stage or explained_stage(classifier)
    (places,) = grad_cam(classifier, pixels[None], stage, explained)

    title = f"{explained} {prediction.probabilities[explained]:.1%}"
    if explained != prediction.label:
        title += f" (predicted: {prediction.label})"
    seen_at = f"stage {stage}"
    if not places.any():
        seen_at += ": nothing speaks for it"
    figure = heat_overlay(pixels.permute(1, 2, 0).numpy(), places.numpy(), file.name, f"{title}\n{seen_at}")
    with whole_file(target) as beside:
        figure.savefig(beside, format=suffix, dpi=120)
    console.print(f"{image}: {title}, {seen_at}: {target}")
    return target
