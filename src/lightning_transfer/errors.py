"""The errors that a person can mend: what was wanted, what came, what to do.

The command line prints them as one paragraph, and a traceback with `--debug` alone.
"""


class TransferError(Exception):
    """Something outside this library is not as it should be; the message names it and the remedy."""


class BackboneError(TransferError):
    """A network, stage or weights file that is unknown or does not fit."""


class ProviderError(BackboneError):
    """A network of a provider that is not known here, though it may be elsewhere."""


class DataError(TransferError):
    """A folder of images, or one image, that cannot be used as it is."""


class DownloadError(TransferError):
    """A file that could not be fetched, or that is not the one it should be."""


class StoreError(TransferError):
    """A feature store that is absent, incomplete, or cannot be made."""


class OutputError(TransferError):
    """A file that is not to be written over, or cannot be written."""


class ModuleError(TransferError):
    """A module whose arguments do not fit the data or the checkpoint it is given."""


class TrainingError(TransferError):
    """A run that has come to nothing: its loss or its weights are no numbers any more, or no batch came."""


class CallbackError(TransferError):
    """A callback that lacks something of the Trainer, the module or the data."""


class ScheduleError(TransferError):
    """A schedule of stages that does not fit the network, the Trainer or the checkpoint."""


class AuditError(TransferError):
    """Something frozen that changed, or something that was to train and did not."""


class ExtraError(TransferError):
    """A library that one of the extras brings, and that is not installed."""


class UsageError(TransferError):
    """A command line or a config that names what there is not, or what it may not."""
