"""Errors that a user can cause and correct.

Each message is one sentence: what is wrong, where, and what to do about it. The command line
prints it and exits with code 2; the napari plugin shows it as a notification.
"""

import errno
from os import PathLike

PATH = (str, PathLike)
"""Types of a path in arguments."""


class SslsegError(Exception):
    """Base class of all errors whose message is meant for the user."""


class VolumeError(SslsegError):
    """A file that cannot be read or used as a 3D scan or label map."""


class GeometryError(SslsegError):
    """Grids that do not match, or an invalid affine."""


class DataError(SslsegError):
    """An inconsistent set of scans or labels."""


class ClassesError(DataError):
    """Structures of label files whose class is not clear.

    Parameters
    ----------
    sentence : str
        What is not clear, and what to do.
    table : str
        The class map to fill in, as CSV.
    """

    def __init__(self, sentence: str, table: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.table = table

    def __str__(self) -> str:
        return f"{self.sentence}\n{self.table}" if self.table else self.sentence


class ConfigError(SslsegError):
    """An invalid setting, or one that does not suit the data."""


class CallError(ConfigError, TypeError):
    """A function was called with arguments that it does not have."""


def check_type(value: object, wanted: type | tuple[type, ...], name: str, write: str) -> None:
    """Refuse an argument of another type.

    Parameters
    ----------
    value : object
        The argument.
    wanted : type or tuple of type
        The types that it may have.
    name : str
        Name of the argument, for the message.
    write : str
        What to write instead, for the message.

    Raises
    ------
    CallError
        If it has none of the types.
    """
    if isinstance(value, wanted):
        return
    given = "None" if value is None else f"of the type {type(value).__name__}"
    if isinstance(value, type):
        given, write = f"the class {value.__name__}", f"{value.__name__}() with parentheses"
    raise CallError(f"{name} cannot be {given}; write {write}.")


class CheckpointError(SslsegError):
    """A run folder or a weights file that cannot be used."""


class LostProcessError(SslsegError):
    """Another process of a distributed training has ended."""


class ProjectError(SslsegError):
    """A project folder that cannot be used, or a change that is not allowed."""


class ClassInUseError(ProjectError):
    """A class cannot be removed, because it occurs in labels.

    Attributes
    ----------
    name : str
        Name of the class.
    scans : tuple of str
        Scans whose labels have it.
    """

    def __init__(self, sentence: str, name: str, scans: tuple[str, ...]) -> None:
        super().__init__(sentence)
        self.name, self.scans = name, scans


class StorageError(SslsegError):
    """A file or folder that cannot be written."""


class ReadOnlyFolderError(StorageError):
    """A folder in which nothing can be written, because of its permissions or its disk."""


class LostFolderError(StorageError):
    """A folder that was deleted, moved or replaced while this process was working in it."""


def remedy(error: OSError) -> str:
    """What helps if something cannot be written: space on a full disk, or another place."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG)
    return f"{'free some space or ' * full}choose another folder"


class ScanWarning(UserWarning):
    """A property of a usable scan that the user should know."""
