"""The image size of a data module: its own, or that of the backbone that the images are for."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerStatus

from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import positive


class SizedDataModule(LightningDataModule):
    """A data module whose images have one size, which may be left to the backbone.

    Args:
        image_size: H and W of every image, in pixels; None for the module's `image_size` or, where that is None,
            too, for the native size of its backbone.

    Attributes:
        default_size: The size that None stands for, once it is known; a Trainer that runs sets it.
    """

    def __init__(self, image_size: int | None) -> None:
        super().__init__()
        self._image_size = None if image_size is None else positive("image_size", image_size)
        self.default_size: int | None = None

    @property
    def image_size(self) -> int | None:
        """H and W of every image, in pixels; None where that is left to a backbone, and not known yet."""
        return self._image_size or self.default_size

    @image_size.setter
    def image_size(self, size: int | None) -> None:
        self._image_size = None if size is None else positive("image_size", size)

    def known_size(self) -> int:
        """Return `image_size`.

        Raises:
            DataError: It is not known yet.
        """
        if self.image_size is None:
            raise DataError(
                f"image_size=None of {type(self).__name__} stands for the backbone's native size, which is not "
                "known before a Trainer or extract_features sets the data up: pass image_size, or leave setup() "
                "to them."
            )
        return self.image_size

    def prepare_data(self) -> None:
        """Settle the image size, before any image is looked at.

        Raises:
            BackboneError: The patches of the backbone do not fit it.
        """
        self.settle_size()

    def settle_size(self) -> None:
        """Take the size from the module that a Trainer is running, and have its backbone check it.

        Raises:
            BackboneError: The patches of the backbone do not fit it.
        """
        trainer: Any = self.trainer
        # One that ran before does not count: the images may be for another backbone now.
        if trainer is None or trainer.datamodule is not self or trainer.state.status is not TrainerStatus.RUNNING:
            return
        module = trainer.lightning_module
        backbone: Any = getattr(module, "backbone", None)
        native = getattr(backbone, "native_size", None)  # of a Backbone; data know nothing of its class
        asked = module.hparams.get("image_size")
        self.default_size = asked if isinstance(asked, int) else native
        if native is not None and self.image_size is not None:
            backbone.check_size(self.image_size)
