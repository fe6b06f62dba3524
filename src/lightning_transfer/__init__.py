"""Transfer learning with convolutional networks, as PyTorch Lightning modules."""

from lightning_transfer.backbones.conv_base import ConvBase
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.features.datamodule import FeatureDataModule
from lightning_transfer.features.extract import extract_features
from lightning_transfer.features.extractor import FeatureExtractor
from lightning_transfer.features.store import FeatureStore
from lightning_transfer.heads import Head
from lightning_transfer.modules.feature_classifier import FeatureClassifier

__all__ = [
    "CatsAndDogsDataModule",
    "ConvBase",
    "FeatureClassifier",
    "FeatureDataModule",
    "FeatureExtractor",
    "FeatureStore",
    "Head",
    "ImageFolderDataModule",
    "extract_features",
]
