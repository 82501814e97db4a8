"""The values of a scan as they are stored: a block of numbers in a file, plain or compressed.

Headers are not believed. What a header asks for is compared with the size of the file before any
memory is set aside, and compressed data are read to their last byte, where the checksum stands.
"""

import bz2
import io
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import reraise_parser_errors

Packing = Literal["raw", "gzip", "zlib", "bzip2", "text"]

GZIP_MARK = b"\x1f\x8b"
# Deflate makes data at most 1032 times smaller; the blocks of bzip2 have no such bound.
MAX_RATIO = {"raw": 1, "text": 1, "gzip": 1032, "zlib": 1032}
_BLOCK = 1 << 20
_PACKED_BLOCK = 1 << 18
_WINDOW = {"gzip": 31, "zlib": 47}  # 47: with either header, as MetaImage allows


class _Inflated:
    """A gzip or zlib stream, inflated as it is read; zlib compares the checksum at its end."""

    def __init__(self, file: io.FileIO, window: int) -> None:
        self._file = file
        self._window = window
        self._member = zlib.decompressobj(window)
        self._waiting = b""

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            if self._member.eof and not self._next_member():
                return 0
            packed = self._waiting or self._file.read(_PACKED_BLOCK)
            data = self._member.decompress(packed, len(buffer))
            self._waiting = self._member.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not packed and not self._member.eof:
                raise EOFError("its compressed data end too early")

    def _next_member(self) -> bool:
        """Whether another gzip member follows, as block-wise writers leave; padding is not one."""
        rest = self._member.unused_data
        if len(rest) < len(GZIP_MARK):
            rest += self._file.read(_PACKED_BLOCK)
        if not rest.startswith(GZIP_MARK):
            return False
        self._member = zlib.decompressobj(self._window)
        self._waiting = rest
        return True


_Stream = _Inflated | io.FileIO | bz2.BZ2File


@dataclass
class StoredValues:
    """A block of values in a file.

    Parameters
    ----------
    path : Path
        The file that holds them.
    dtype : dtype
        Their type, with its byte order.
    shape : tuple of int
        Three axes, the first of which varies fastest.
    frames : int
        How many volumes of this shape follow each other.
    start : int
        Byte of the file where they start, or where their compressed data start.
    packing : {"raw", "gzip", "zlib", "bzip2", "text"}
        How they are packed.
    skip : int
        Bytes to leave out after unpacking; -1 for all before the values, which come last.
    within : bool
        The values may lie anywhere in a longer file.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, int, int]
    frames: int = 1
    start: int = 0
    packing: Packing = "raw"
    skip: int = 0
    within: bool = False
    _verified: bool = field(default=False, init=False, repr=False)

    @property
    def volume_size(self) -> int:
        """Bytes of one volume."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of all volumes."""
        return self.volume_size * self.frames

    def check(self) -> None:
        """Refuse a shape that the file cannot hold, or that leaves a slice or more of it over.

        Raises
        ------
        VolumeError
            In one sentence.
        """
        there = self.path.stat().st_size - self.start
        if self.packing == "text":  # a digit and a blank each
            least = 2 * math.prod(self.shape) * self.frames - 1
        else:
            least = max(self.skip, 0) + self.size
        ratio = MAX_RATIO.get(self.packing)
        if there < 1 or (ratio and least > there * ratio):
            raise VolumeError(
                f"{self.path} is too short for the {self._said} that its header says; the file is "
                "cut short or damaged, so copy or download it again."
            )
        if self.packing == "raw" and not self.within:
            self._check_surplus(there - self.size)

    def read(self, frame: int = 0) -> np.ndarray:
        """Values of one volume as they are stored; nothing else is kept in memory.

        Raises
        ------
        VolumeError
            If the data end early, do not match their checksum, or are more than the header says.
        """
        advice = "the file is cut short or damaged, so copy or download it again"
        with reraise_parser_errors(
            self.path, "the values of a scan", advice=advice, begins_as_text=True
        ):
            if self.packing == "text":
                return self._read_text(frame)
            # Pages of it count as memory only once values are read into them.
            data = np.empty(self.volume_size, np.uint8)
            with self.path.open("rb", buffering=0) as file:
                if self.packing == "raw":
                    file.seek(self.start + frame * self.volume_size)
                    _fill(file, data.data)
                else:
                    self._unpack(file, frame, data.data)
        return data.view(self.dtype).reshape(self.shape, order="F")

    def _unpack(self, file: io.FileIO, frame: int, target: memoryview) -> None:
        skip = self.skip
        if skip < 0:
            skip = _pass_over(self._stream(file), None) - self.size
            if skip < 0:
                raise EOFError("its compressed data end too early")
        stream = self._stream(file)
        _pass_over(stream, skip + frame * self.volume_size)
        _fill(stream, target)
        if not self._verified:
            after = (self.frames - 1 - frame) * self.volume_size
            slice_size = self.volume_size // self.shape[2]
            self._check_surplus(_pass_over(stream, after + slice_size, short=True) - after)
            self._verified = True

    def _stream(self, file: io.FileIO) -> _Stream:
        file.seek(self.start)
        if self.packing == "bzip2":
            return bz2.BZ2File(file)
        return _Inflated(file, _WINDOW[self.packing])

    def _check_surplus(self, surplus: int) -> None:
        # Less than a slice may be padding; more means that the sizes in the header are wrong.
        if surplus >= self.volume_size // self.shape[2]:
            raise VolumeError(
                f"{self.path} holds more than the {self._said} that its header says, so its "
                "header is damaged; copy, export or download it again."
            )
        if surplus < 0:
            raise EOFError("its data end too early")

    def _read_text(self, frame: int) -> np.ndarray:
        with self.path.open("rb") as file:
            file.seek(self.start)
            words = file.read().replace(b",", b" ").split()
        count = math.prod(self.shape)
        if len(words) != count * self.frames:
            raise ValueError(f"it holds {len(words)} numbers instead of {count * self.frames}")
        kind = self.dtype.newbyteorder("=")
        numbers = np.array(words[frame * count : (frame + 1) * count]).astype(kind)
        return numbers.reshape(self.shape, order="F")

    @property
    def _said(self) -> str:
        shape = self.shape if self.frames == 1 else (*self.shape, self.frames)
        return f"{' × '.join(map(str, shape))} voxels of {self.dtype.name}"


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, after inflating it if it is compressed by gzip; maybe fewer."""
    target = bytearray(count)
    with path.open("rb", buffering=0) as file:
        packed = file.read(len(GZIP_MARK)) == GZIP_MARK
        file.seek(0)
        stream: _Stream = _Inflated(file, _WINDOW["gzip"]) if packed else file
        return bytes(target[: _fill(stream, memoryview(target), short=True)])


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, told by its first bytes and not by its name."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MARK)) == GZIP_MARK


def apply_scaling(data: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """Values in native byte order: the integer type if they are not scaled, else float32.

    Parameters
    ----------
    data : ndarray
        Stored values; they may be changed in place.
    slope, intercept : float
        Scaling from the header.
    """
    if not data.dtype.isnative:
        data = data.byteswap(inplace=True).view(data.dtype.newbyteorder("="))
    scaled = (slope, intercept) != (1.0, 0.0)
    if not scaled and (data.dtype.kind in "iu" or data.dtype == np.float32):
        return data
    result = np.empty(data.shape, np.float32, order="F")
    source, target = data.reshape(-1, order="F"), result.reshape(-1, order="F")
    # Block by block in the cache: in double precision, without a second copy of the scan.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, source.size, _BLOCK // 16):
            block = source[start : start + _BLOCK // 16].astype(np.float64)
            if scaled:
                block *= slope
                block += intercept
            target[start : start + block.size] = block
    return result


def _fill(stream: _Stream, target: memoryview, *, short: bool = False) -> int:
    """Read until the target is full; a short stream is an error unless it is allowed."""
    done = 0
    while done < len(target):
        count = stream.readinto(target[done : done + _BLOCK])
        if not count:
            if short:
                break
            raise EOFError("its data end too early")
        done += count
    return done


def _pass_over(stream: _Stream, count: int | None, *, short: bool = False) -> int:
    """Read and forget so many bytes, or all; the number that there were."""
    scratch = memoryview(bytearray(_BLOCK))
    done = 0
    while count is None or done < count:
        wanted = _BLOCK if count is None else min(_BLOCK, count - done)
        got = stream.readinto(scratch[:wanted])
        if not got:
            if count is None or short:
                break
            raise EOFError("its data end too early")
        done += got
    return done
