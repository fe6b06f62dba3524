"""Transfer learning with pretrained networks, as PyTorch Lightning modules."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_transfer.callbacks.adaptive_unfreeze import AdaptiveUnfreeze
    from lightning_transfer.callbacks.freeze_audit import FreezeAudit
    from lightning_transfer.callbacks.history import History
    from lightning_transfer.callbacks.save_backbone import SaveBackbone
    from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
    from lightning_transfer.callbacks.step_seeds import StepSeeds
    from lightning_transfer.callbacks.stop_on_non_finite import StopOnNonFinite
    from lightning_transfer.comparison.compare import compare
    from lightning_transfer.comparison.probe import probe
    from lightning_transfer.data.augmentation import Augmentation
    from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
    from lightning_transfer.data.datamodule import ImageDataModule
    from lightning_transfer.data.image_folder import ImageFolderDataModule
    from lightning_transfer.data.image_table import ImageTableDataModule
    from lightning_transfer.data.index import ImageIndex
    from lightning_transfer.features.datamodule import FeatureDataModule
    from lightning_transfer.features.extract import extract_features
    from lightning_transfer.features.extractor import FeatureExtractor
    from lightning_transfer.features.store import FeatureStore
    from lightning_transfer.inference.grad_cam import grad_cam
    from lightning_transfer.inference.prediction import ImageClassifier, load_classifier
    from lightning_transfer.models.backbone import Backbone
    from lightning_transfer.models.freezing import parameter_groups
    from lightning_transfer.models.head import Head
    from lightning_transfer.models.network import TransferNetwork
    from lightning_transfer.monitoring.confusion_matrix import ConfusionMatrix
    from lightning_transfer.monitoring.feature_maps import FeatureMaps
    from lightning_transfer.monitoring.filters import FirstLayerFilters
    from lightning_transfer.monitoring.graph import ModelGraph
    from lightning_transfer.monitoring.hyperparameters import Hyperparameters
    from lightning_transfer.monitoring.precision_recall import PrecisionRecall
    from lightning_transfer.monitoring.projector import FeatureProjector
    from lightning_transfer.monitoring.wrong_images import WrongImages
    from lightning_transfer.sketches.creatures_datamodule import SketchCreaturesDataModule
    from lightning_transfer.sketches.datamodule import SketchPetsDataModule
    from lightning_transfer.training.checkpoint_io import AtomicCheckpointIO
    from lightning_transfer.training.classifier import Classifier
    from lightning_transfer.training.regimes import (
        FeatureClassifier,
        FineTuningClassifier,
        FrozenBackboneClassifier,
    )

__all__ = [
    "AdaptiveUnfreeze",
    "AtomicCheckpointIO",
    "Augmentation",
    "Backbone",
    "CatsAndDogsDataModule",
    "Classifier",
    "ConfusionMatrix",
    "FeatureClassifier",
    "FeatureDataModule",
    "FeatureExtractor",
    "FeatureMaps",
    "FeatureProjector",
    "FeatureStore",
    "FineTuningClassifier",
    "FirstLayerFilters",
    "FreezeAudit",
    "FrozenBackboneClassifier",
    "Head",
    "History",
    "Hyperparameters",
    "ImageClassifier",
    "ImageDataModule",
    "ImageFolderDataModule",
    "ImageIndex",
    "ImageTableDataModule",
    "ModelGraph",
    "PrecisionRecall",
    "SaveBackbone",
    "SketchCreaturesDataModule",
    "SketchPetsDataModule",
    "StagedUnfreeze",
    "StepSeeds",
    "StopOnNonFinite",
    "TransferNetwork",
    "WrongImages",
    "compare",
    "extract_features",
    "grad_cam",
    "load_classifier",
    "parameter_groups",
    "probe",
]

# The module of each public name. It is imported when the name is asked for: torch and Lightning take seconds, and
# `--help`, or an error in a command line, needs neither.
MODULES = {
    "AdaptiveUnfreeze": "callbacks.adaptive_unfreeze",
    "AtomicCheckpointIO": "training.checkpoint_io",
    "Augmentation": "data.augmentation",
    "Backbone": "models.backbone",
    "CatsAndDogsDataModule": "data.cats_and_dogs",
    "Classifier": "training.classifier",
    "ConfusionMatrix": "monitoring.confusion_matrix",
    "FeatureClassifier": "training.regimes",
    "FeatureDataModule": "features.datamodule",
    "FeatureExtractor": "features.extractor",
    "FeatureMaps": "monitoring.feature_maps",
    "FeatureProjector": "monitoring.projector",
    "FeatureStore": "features.store",
    "FineTuningClassifier": "training.regimes",
    "FirstLayerFilters": "monitoring.filters",
    "FreezeAudit": "callbacks.freeze_audit",
    "FrozenBackboneClassifier": "training.regimes",
    "Head": "models.head",
    "History": "callbacks.history",
    "Hyperparameters": "monitoring.hyperparameters",
    "ImageClassifier": "inference.prediction",
    "ImageDataModule": "data.datamodule",
    "ImageFolderDataModule": "data.image_folder",
    "ImageIndex": "data.index",
    "ImageTableDataModule": "data.image_table",
    "ModelGraph": "monitoring.graph",
    "PrecisionRecall": "monitoring.precision_recall",
    "SaveBackbone": "callbacks.save_backbone",
    "SketchCreaturesDataModule": "sketches.creatures_datamodule",
    "SketchPetsDataModule": "sketches.datamodule",
    "StagedUnfreeze": "callbacks.staged_unfreeze",
    "StepSeeds": "callbacks.step_seeds",
    "StopOnNonFinite": "callbacks.stop_on_non_finite",
    "TransferNetwork": "models.network",
    "WrongImages": "monitoring.wrong_images",
    "compare": "comparison.compare",
    "extract_features": "features.extract",
    "grad_cam": "inference.grad_cam",
    "load_classifier": "inference.prediction",
    "parameter_groups": "models.freezing",
    "probe": "comparison.probe",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is asked for the first time."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    globals()[name] = found  # from now on without this function
    return found


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
