"""Recognise what a file of weights is, to say so if it cannot be imported."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from napari_sslseg.core.common.safe_files import open_regular

TAR_MARK = (257, b"ustar")
_START = 512
_LARGEST_HEADER = 2**32
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    LookupError,
    struct.error,
    zipfile.BadZipFile,
)

TRUSTED = (
    "if you trust it, load it with the program that wrote it and save only its state dict, best as "
    "safetensors"
)
UNPACK = "unpack it first"


@dataclass(frozen=True)
class WeightFileKind:
    """A kind of file that is not imported: what a file is, and what to do with it."""

    name: str
    advice: str


SAFETENSORS = WeightFileKind("a safetensors file", "give it the suffix .safetensors")
PICKLE = WeightFileKind("a file of PyTorch", "give it the suffix .pt")
TORCHSCRIPT = WeightFileKind(
    "a TorchScript program (torch.jit.save), which contains code",
    "if you trust it, load it with torch.jit.load and save only its state dict",
)
LIGHTNING = WeightFileKind("a checkpoint of Lightning with more than weights", TRUSTED)
WHOLE_MODEL = WeightFileKind("a whole pickled model", TRUSTED)
MORE = WeightFileKind("a file that contains more than weights", TRUSTED)
NO_WEIGHTS = WeightFileKind(
    "a ZIP archive without weights of PyTorch", "unpack it, or choose another"
)

_MARKS = (
    (0, b"\x89HDF\r\n\x1a\n", WeightFileKind("an HDF5 file, as Keras writes", "convert it first")),
    (0, b"\x93NUMPY", WeightFileKind("a NumPy array", "save named tensors as safetensors")),
    (0, b"\x1f\x8b", WeightFileKind("a file that gzip compressed", UNPACK)),
    (0, b"BZh", WeightFileKind("a file that bzip2 compressed", UNPACK)),
    (0, b"\xfd7zXZ\0", WeightFileKind("a file that xz compressed", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", WeightFileKind("a file that Zstandard compressed", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", WeightFileKind("a 7-Zip archive", UNPACK)),
    (
        0,
        b"version https://git-lfs",
        WeightFileKind("a Git LFS pointer and not the file itself", "fetch it with git lfs pull"),
    ),
    *(
        (0, mark, WeightFileKind("a web page", "download the file again, with a login if needed"))
        for mark in (b"<!DOCTYPE html", b"<!doctype html", b"<html")
    ),
    (
        *TAR_MARK,
        WeightFileKind("a tar archive, as PyTorch wrote before version 0.4 or as a collection",
                       f"{UNPACK}, or {TRUSTED}"),
    ),
)  # fmt: skip


def file_kind(path: Path) -> WeightFileKind | None:
    """Return what a file is, by its first bytes; None if it is unknown or cannot be read."""
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except OSError:
        return None
    if start.startswith(b"PK\x03\x04"):
        return _archive_kind(path)
    for offset, mark, kind in _MARKS:
        if start[offset:].startswith(mark):
            return kind
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= length < _LARGEST_HEADER:
        return SAFETENSORS
    # Protocol 2 to 5 of pickle.
    return PICKLE if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" else None


def _archive_kind(path: Path) -> WeightFileKind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except _DAMAGED:
        return None
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return TORCHSCRIPT
    return PICKLE if "data.pkl" in names else NO_WEIGHTS


def pickle_kind(data: bytes) -> WeightFileKind:
    """Return what a pickle is that refers to more than tensors, by texts in it."""
    if b"pytorch-lightning_version" in data:
        return LIGHTNING
    if b"_modules" in data and b"_parameters" in data:
        return WHOLE_MODEL
    return MORE
