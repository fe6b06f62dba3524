"""`lightning-transfer classify`: a line for each image."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from lightning_transfer.data.datamodule import OnBadImage
from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.errors import DataError
from lightning_transfer.inference.prediction import Prediction, load_classifier


def classify(
    checkpoint: str,
    images: list[str],
    max_pixels: int | None = None,
    on_bad_image: OnBadImage = "error",
    allow_import: Sequence[str] = (),
) -> list[Prediction]:
    """Print what each image shows: file, class, probability.

    Args:
        checkpoint: A file that fit saved, of any regime.
        images: Their files.
        max_pixels: Largest height times width of a file; the checkpoint's, as in training, where it is not given.
        on_bad_image: What becomes of files that cannot be read: "error" ends with an error that names them, "skip"
            leaves them out.
        allow_import: A package to trust with whatever its code does, where a class of its own made the checkpoint.

    Returns:
        What was printed, in the order of the files.

    Raises:
        ModuleError: The checkpoint cannot be used.
        DataError: Some images cannot be read, and on_bad_image is "error"; the others are printed first.
    """
    classifier = load_classifier(checkpoint, allow_import=allow_import, max_pixels=max_pixels)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    width = max(map(len, images), default=0)
    names = max(map(len, classifier.class_names))
    predictions: list[Prediction] = []
    complaints: list[str] = []
    for image in images:
        try:
            (prediction,) = classifier.classify([image])
        except UnreadableImageError as error:
            complaints.append(str(error))
            continue
        console.print(f"{image:<{width}}  {prediction.label:<{names}}  {prediction.probability:6.1%}")
        predictions.append(prediction)
    if complaints and on_bad_image == "error":
        raise DataError("\n".join(complaints))
    for complaint in complaints:
        console.print(f"Left out: {complaint}")
    return predictions
