"""All that can be drawn for TensorBoard, each on by a flag."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lightning.pytorch import Callback

from lightning_transfer.monitoring.confusion_matrix import ConfusionMatrix
from lightning_transfer.monitoring.drawing import Drawing
from lightning_transfer.monitoring.feature_maps import FeatureMaps
from lightning_transfer.monitoring.filters import FirstLayerFilters
from lightning_transfer.monitoring.graph import ModelGraph
from lightning_transfer.monitoring.group import DrawingGroup
from lightning_transfer.monitoring.hyperparameters import Hyperparameters
from lightning_transfer.monitoring.precision_recall import PrecisionRecall
from lightning_transfer.monitoring.projector import FeatureProjector
from lightning_transfer.monitoring.wrong_images import WrongImages

DRAWINGS: dict[str, type[Drawing]] = {
    "hyperparameters": Hyperparameters,
    "graph": ModelGraph,
    "confusion_matrix": ConfusionMatrix,
    "precision_recall": PrecisionRecall,
    "wrong_images": WrongImages,
    "projector": FeatureProjector,
    "feature_maps": FeatureMaps,
    "filters": FirstLayerFilters,
}


@dataclass
class Drawings:
    """What is drawn for TensorBoard beside the scalars, at the end of a fit.

    Args:
        hyperparameters: A row with the run's arguments and scores, under HPARAMS.
        graph: Backbone and head, under GRAPHS.
        confusion_matrix: Of the validation images, under IMAGES.
        precision_recall: A curve a class, under PR CURVES.
        wrong_images: Those that are most confidently wrong, under IMAGES.
        projector: The validation images' features as points in space, under PROJECTOR.
        feature_maps: What each stage makes of a few images, under IMAGES.
        filters: Those of the first layer, under IMAGES.
    """

    hyperparameters: bool = False
    graph: bool = False
    confusion_matrix: bool = False
    precision_recall: bool = False
    wrong_images: bool = False
    projector: bool = False
    feature_maps: bool = False
    filters: bool = False

    @classmethod
    def all(cls) -> Drawings:
        """Everything."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), True))

    def callbacks(self) -> list[Callback]:
        """A callback for all that is on; none where nothing is."""
        drawings = [kind() for name, kind in DRAWINGS.items() if getattr(self, name)]
        return [DrawingGroup(drawings)] if drawings else []
