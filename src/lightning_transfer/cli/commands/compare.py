"""`lightning-transfer compare`: which regime for these images."""

from __future__ import annotations

from lightning_transfer.cli.data_by_name import data_by_name
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.comparison import compare as comparison
from lightning_transfer.comparison.tables import Outcomes


def compare(
    data: str = "sketch_pets",
    backbone: str = "mobilenet_v3_small",
    weights: str = "auto",
    epochs: int | None = None,
    seeds: int = 1,
    out: str = "comparison",
    options: DataOptions = DataOptions(),  # noqa: B008  # it is immutable
) -> Outcomes:
    """Run feature extraction, frozen backbone and fine-tuning on the same images, and compare them.

    Fine-tuning starts from the frozen backbone's run. What is finished does not run again, and what was stopped
    continues: type the same command.

    Args:
        data: A folder of images, a folder for each class; a table of them, `*.csv` or `*.tsv`;
            "cats_and_dogs" for the book's, which are downloaded; or "sketch_pets" for drawn ones, which need no
            network.
        backbone: The network's name: torchvision's, or timm's as "timm/NAME".
        weights: A weights name, a path, "bundled", or "none" for random; "auto" is the bundled ones where this
            library has them, else the provider's own.
        epochs: Of each regime; 20, 4 and 5 where not given.
        seeds: How often each regime runs, with other orders, augmentations and heads.
        out: The folder for report, figures, checkpoints and TensorBoard logs.
        options: How the images are read. The first run has their seed, the next one more, and so on.

    Returns:
        The result of each regime, one a seed.

    Raises:
        DataError: The images are not usable, or `out` holds another comparison.
        UsageError: An option was given that these data do not have.
        BackboneError: An unknown network, or weights that do not fit.
    """
    images = data_by_name(data, options.sized_for(backbone, weights), comparison.AUGMENTATION, out)
    return comparison.compare(images, backbone, weights=weights, epochs=epochs, seeds=seeds, out=out, name=data)
