"""`lightning-transfer probe`: how much of a backbone to keep for these images."""

from __future__ import annotations

from lightning_transfer.cli.data_by_name import data_by_name
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.comparison import probe as probing
from lightning_transfer.comparison.probing import ProbedStage


def probe(
    data: str = "sketch_pets",
    backbone: str = "mobilenet_v3_small",
    weights: str = "auto",
    out: str = "probe",
    overwrite: bool = False,
    options: DataOptions = DataOptions(),  # noqa: B008  # it is immutable
) -> list[ProbedStage]:
    """Train a linear classifier on every stage of a backbone, and say how much of the backbone to keep.

    The backbone runs once over the training and validation images; each stage's output is averaged over the image.

    Args:
        data: A folder of images, a folder for each class; a table of them, `*.csv` or `*.tsv`;
            "cats_and_dogs" for the book's, which are downloaded; or "sketch_pets" for drawn ones, which need no
            network.
        backbone: The network's name: torchvision's, or timm's as "timm/NAME".
        weights: A weights name, a path, "bundled", or "none" for random; "auto" is the bundled ones where this
            library has them, else the provider's own.
        out: The folder for table and figure.
        overwrite: Replace those of an earlier run.
        options: How the images are read.

    Returns:
        The stages, in the backbone's order.

    Raises:
        DataError: The images are not usable, or `out` holds an earlier run.
        UsageError: An option was given that these data do not have.
        BackboneError: An unknown network, weights that do not fit, or images that are too small for it.
    """
    images = data_by_name(data, options.sized_for(backbone, weights), out=out)
    return probing.probe(
        images, backbone, weights=weights, seed=options.seed, out=out, overwrite=overwrite, name=data
    )
