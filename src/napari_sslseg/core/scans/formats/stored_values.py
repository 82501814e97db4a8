"""Read the stored values of a scan: a block of numbers in a file, plain or compressed.

Headers are not trusted: the size that a header gives is compared with the size of the file before
memory is allocated, and compressed data are read to the end, so that the checksum is verified.
"""

import bz2
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import reraise_parser_errors

Packing = Literal["raw", "gzip", "zlib", "bzip2", "text", "hex"]

GZIP_MARK = b"\x1f\x8b"
# Deflate compresses by a factor of at most 1032; bzip2 has no such limit.
MAX_RATIO = {"raw": 1, "text": 1, "hex": 1, "gzip": 1032, "zlib": 1032}
MOST_BEFORE = 1 << 26
"""Bytes that a header may ask to skip in front of compressed values."""

_LONGEST_NUMBER = 64
_BLOCK = 1 << 20
_PACKED_BLOCK = 1 << 18
_WINDOW = {"gzip": 31, "zlib": 47}  # 47: zlib or gzip header, as MetaImage allows


class _InflateStream:
    """A gzip or zlib stream, decompressed while reading; zlib verifies the checksum at the end."""

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
        """Start the next gzip member, as block-wise writers create; False if there is none."""
        rest = self._member.unused_data
        if len(rest) < len(GZIP_MARK):
            rest += self._file.read(_PACKED_BLOCK)
        if not rest.startswith(GZIP_MARK):
            return False
        self._member = zlib.decompressobj(self._window)
        self._waiting = rest
        return True


_Stream = _InflateStream | io.FileIO | bz2.BZ2File


@dataclass
class StoredValues:
    """A block of values in a file.

    Parameters
    ----------
    path : Path
        The file.
    dtype : dtype
        Type of the values, with its byte order.
    shape : tuple of int
        Shape of a volume, three axes; the first varies fastest.
    frames : int
        Number of volumes of this shape.
    start : int
        Byte offset of the values, or of their compressed data.
    packing : {"raw", "gzip", "zlib", "bzip2", "text", "hex"}
        Encoding.
    skip : int
        Bytes to skip after decompression; -1 if the values are the last bytes.
    within : bool
        Whether other data may follow the values in the file.
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
        """Size of one volume in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Size of all volumes in bytes."""
        return self.volume_size * self.frames

    def check(self) -> None:
        """Compare the shape with the size of the file.

        Raises
        ------
        VolumeError
            If the file is too short, or is longer by a slice or more.
        """
        available = self.path.stat().st_size - self.start
        if self.packing == "text":  # a digit and a blank per value
            least = 2 * math.prod(self.shape) * self.frames - 1
        elif self.packing == "hex":
            least = 2 * self.size
        else:
            least = max(self.skip, 0) + self.size
        ratio = MAX_RATIO.get(self.packing)
        if self.packing != "raw" and self.skip > MOST_BEFORE:
            raise VolumeError(
                f"{self.path} puts {self.skip} bytes before its compressed values by its header, "
                "which is damaged; copy or download it again."
            )
        if available < 1 or (ratio and least > available * ratio):
            raise VolumeError(
                f"{self.path} is too short for the {self._description} of its header; the file is "
                "truncated or damaged, so copy or download it again."
            )
        if self.packing == "raw" and not self.within:
            self._check_surplus(available - self.size)

    def read(self, frame: int = 0) -> np.ndarray:
        """Read the stored values of one volume; nothing else is kept in memory.

        Raises
        ------
        VolumeError
            If the data are truncated, fail their checksum, or are longer than in the header.
        """
        advice = "the file is truncated or damaged, so copy or download it again"
        with reraise_parser_errors(
            self.path, "the values of a scan", advice=advice, begins_as_text=True
        ):
            if self.packing == "text":
                return self._read_text(frame)
            if self.packing == "hex":
                return self._read_hex(frame)
            # Its pages use memory only once values are read into them.
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
            most = self.size + MOST_BEFORE
            skip = _skip(self._stream(file), most + 1, short=True) - self.size
            if skip > MOST_BEFORE:
                raise ValueError(f"it unpacks to more than {most} bytes")
            if skip < 0:
                raise EOFError("its compressed data end too early")
        stream = self._stream(file)
        _skip(stream, skip + frame * self.volume_size)
        _fill(stream, target)
        if not self._verified:
            after = (self.frames - 1 - frame) * self.volume_size
            slice_size = self.volume_size // self.shape[2]
            self._check_surplus(_skip(stream, after + slice_size, short=True) - after)
            self._verified = True

    def _stream(self, file: io.FileIO) -> _Stream:
        file.seek(self.start)
        if self.packing == "bzip2":
            return bz2.BZ2File(file)
        return _InflateStream(file, _WINDOW[self.packing])

    def _check_surplus(self, surplus: int) -> None:
        # Less than a slice may be padding; more means that the header is wrong.
        if surplus >= self.volume_size // self.shape[2]:
            raise VolumeError(
                f"{self.path} holds more than the {self._description} of its header, so the header "
                "is damaged; copy, export or download it again."
            )
        if surplus < 0:
            raise EOFError("its data end too early")

    def _read_text(self, frame: int) -> np.ndarray:
        count = math.prod(self.shape)
        numbers = np.empty(count, self.dtype.newbyteorder("="))
        # Number of the first word of a block within this volume.
        place = -frame * count
        for words in self._words():
            here = words[max(-place, 0) : max(count - place, 0)]
            if here:
                begin = max(place, 0)
                numbers[begin : begin + len(here)] = np.array(here).astype(numbers.dtype)
            place += len(words)
            if place > (self.frames - frame) * count:
                break
        if place != (self.frames - frame) * count:
            found = place + frame * count
            raise ValueError(f"it holds {found} numbers instead of {count * self.frames}")
        return numbers.reshape(self.shape, order="F")

    def _words(self) -> Iterator[list[bytes]]:
        """Yield the words of a text, block by block.

        An array of all of them would take as much memory for each word as for the longest.
        """
        rest = b""
        with self.path.open("rb") as file:
            file.seek(self.start)
            while block := file.read(_BLOCK):
                text = (rest + block).replace(b",", b" ")
                words = text.split()
                rest = b"" if text[-1:].isspace() else words.pop()
                if max(map(len, (rest, *words))) > _LONGEST_NUMBER:
                    raise ValueError(f"it holds a number of more than {_LONGEST_NUMBER} characters")
                yield words
        if rest:
            yield [rest]

    def _read_hex(self, frame: int) -> np.ndarray:
        with self.path.open("rb") as file:
            file.seek(self.start)
            # Blanks and ends of lines may be between the digits.
            text = file.read(4 * self.size + _BLOCK)
            if file.read(1):
                raise ValueError(f"it holds more than {self.size} bytes")
            data = bytes.fromhex(text.decode("ascii"))
        self._check_surplus(len(data) - self.size)
        part = data[frame * self.volume_size :][: self.volume_size]
        return np.frombuffer(bytearray(part), self.dtype).reshape(self.shape, order="F")

    @property
    def _description(self) -> str:
        shape = self.shape if self.frames == 1 else (*self.shape, self.frames)
        return f"{' × '.join(map(str, shape))} voxels of {self.dtype.name}"


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, decompressed if it is gzip; fewer if the file is short."""
    target = bytearray(count)
    with path.open("rb", buffering=0) as file:
        packed = file.read(len(GZIP_MARK)) == GZIP_MARK
        file.seek(0)
        stream: _Stream = _InflateStream(file, _WINDOW["gzip"]) if packed else file
        return bytes(target[: _fill(stream, memoryview(target), short=True)])


def is_gzip(path: Path) -> bool:
    """Return whether a file is compressed by gzip, by its first bytes and not by its name."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MARK)) == GZIP_MARK


def apply_scaling(
    data: np.ndarray, slope: float = 1.0, intercept: float = 0.0, kind: Any = np.float32
) -> np.ndarray:
    """Scale values: keep integers in native byte order if there is no scaling, else floats.

    Parameters
    ----------
    data : ndarray
        Stored values; may be modified in place.
    slope, intercept : float
        Scaling from the header.
    kind : dtype
        Type of the floats.
    """
    if not data.dtype.isnative:
        data = data.byteswap(inplace=True).view(data.dtype.newbyteorder("="))
    scaled = (slope, intercept) != (1.0, 0.0)
    if not scaled and (data.dtype.kind in "iu" or data.dtype == np.float32):
        return data
    result = np.empty(data.shape, kind, order="F")
    source, target = data.reshape(-1, order="F"), result.reshape(-1, order="F")
    # Block by block within the cache: double precision without a second copy of the scan.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, source.size, _BLOCK // 16):
            block = source[start : start + _BLOCK // 16].astype(np.float64)
            if scaled:
                block *= slope
                block += intercept
            target[start : start + block.size] = block
    return result


def _fill(stream: _Stream, target: memoryview, *, short: bool = False) -> int:
    """Read until the target is full; a short stream is an error unless ``short`` is set."""
    done = 0
    while done < len(target):
        count = stream.readinto(target[done : done + _BLOCK])
        if not count:
            if short:
                break
            raise EOFError("its data end too early")
        done += count
    return done


def _skip(stream: _Stream, count: int | None, *, short: bool = False) -> int:
    """Skip ``count`` bytes, or all; return the number of bytes skipped."""
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
