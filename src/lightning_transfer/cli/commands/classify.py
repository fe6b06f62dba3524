"""`lightning-transfer classify`: a line for each image."""

from __future__ import annotations

from rich.console import Console

from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.errors import DataError
from lightning_transfer.inference.prediction import Prediction, load_classifier


def classify(checkpoint: str, images: list[str]) -> list[Prediction]:
    """Print what each image shows: file, class, probability.

    Args:
        checkpoint: A file that fit saved, of any regime.
        images: Their files.

    Returns:
        What was printed, in the order of the files.

    Raises:
        ModuleError: The checkpoint cannot be used.
        DataError: Some images cannot be read; the others are printed first.
    """
    classifier = load_classifier(checkpoint)
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
    if complaints:
        raise DataError("\n".join(complaints))
    return predictions
