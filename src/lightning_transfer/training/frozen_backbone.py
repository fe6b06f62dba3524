"""Regime two, frozen backbone: augmented images go through the backbone, which stays as it is; the head trains."""

from __future__ import annotations

from lightning_transfer.training.classifier import Classifier


class FrozenBackboneClassifier(Classifier):
    """Trains the head alone, on images, which the data module augments anew in each epoch.

    Frozen is meant in full: no gradients, hence no autograd graph; eval mode, so that BatchNorm neither uses nor
    updates a batch's statistics. See Chollet, Deep Learning with Python, 1st edition, section 5.3.1, "Feature
    extraction with data augmentation".
    """

    def configure_backbone(self) -> None:
        """Nothing of the backbone trains; without parameters that ask for gradients, autograd keeps nothing of it."""
        self.backbone.requires_grad_(False)
