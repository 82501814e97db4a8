"""Errors that a user can cause and put right.

Each message is one sentence: what is wrong, where, and what to do about it. The command line
prints it as it is and exits with code 2; the napari plugin shows it as a notification.
"""


class SslsegError(Exception):
    """Base of every error whose message is meant for the user."""


class VolumeError(SslsegError):
    """A file that cannot be read, or cannot be used, as a 3D scan or label map."""


class GeometryError(SslsegError):
    """Grids that do not fit each other, or an affine that maps no grid."""


class DataError(SslsegError):
    """A set of scans or labels that does not hold together."""


class ConfigError(SslsegError):
    """A setting that is impossible, alone or for these data."""


class CheckpointError(SslsegError):
    """A run folder or a weights file that cannot be used."""


class LostProcessError(SslsegError):
    """Another of the processes that train together has ended."""


class ProjectError(SslsegError):
    """A project folder that cannot be used, or a change that it does not allow."""


class StorageError(SslsegError):
    """A file or folder that cannot be written."""


class ScanWarning(UserWarning):
    """Something worth knowing about a scan that can be used all the same."""
