"""DICOM files whose attributes are compressed as a whole (deflated), unpacked while they are read.

pydicom unpacks such a file at once: a megabyte can become a gigabyte, also if only the header is
read.
"""

import io
import zlib
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

MOST_HEADER = 2**26
"""Bytes that the attributes before the pixels may take."""

_START = 1024
_META = 128 + 4 + 12
_META_LENGTH = b"\x02\0\0\0UL\x04\0"
_BLOCK = 2**16


def is_deflated(file: BinaryIO) -> bool:
    """Whether the start of a file names the transfer syntax of deflated files."""
    start = file.read(_START)
    file.seek(0)
    return start[128:132] == b"DICM" and DeflatedExplicitVRLittleEndian.encode() in start


def unpacked(file: BinaryIO, most: int = MOST_HEADER) -> io.RawIOBase:
    """Return a deflated file as the same file in the syntax Explicit VR Little Endian.

    Parameters
    ----------
    file : binary file
        The file, at its start.
    most : int
        Bytes that it may unpack to; reading further raises a ValueError.
    """
    # The preamble, the mark "DICM" and the element with the length of the rest of the header.
    head = file.read(_META)
    if head[-12:-4] != _META_LENGTH:
        raise ValueError("its file meta information has no length")
    head += file.read(int.from_bytes(head[-4:], "little"))
    # A UID may end in zeros, so the length stays.
    plain = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")
    head = head.replace(DeflatedExplicitVRLittleEndian.encode(), plain, 1)
    return _Unpacked(head, file, most)


class _Unpacked(io.RawIOBase):
    """The start of a file, and its rest unpacked as far as it was read."""

    def __init__(self, head: bytes, packed: BinaryIO, most: int) -> None:
        super().__init__()
        self._data = bytearray(head)
        self._packed = packed
        self._most = len(head) + most
        self._place = 0
        start = packed.read(2)
        packed.seek(-len(start), io.SEEK_CUR)
        self._inflate = _inflater(start, packed)

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from any place."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        if whence == io.SEEK_END:
            self._unpack(self._most + 1)
            offset += len(self._data)
        elif whence == io.SEEK_CUR:
            offset += self._place
        self._place = max(offset, 0)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read the following bytes."""
        self._unpack(self._place + len(buffer))
        found = self._data[self._place : self._place + len(buffer)]
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)

    def _unpack(self, end: int) -> None:
        while len(self._data) < end and not self._inflate.eof:
            waiting = self._inflate.unconsumed_tail or self._packed.read(_BLOCK)
            found = self._inflate.decompress(waiting, 2**20)
            self._data += found
            if len(self._data) > self._most:
                raise ValueError(f"it unpacks to more than {self._most} bytes")
            if not waiting and not found:
                raise EOFError("its compressed data end too early")


def _inflater(start: bytes, packed: BinaryIO) -> "zlib._Decompress":
    """Return a decompressor for the bare format of the standard, or for that of zlib.

    The standard (PS3.5, A.5) requires the bare format of RFC 1951; some programs write the header
    of zlib before it.
    """
    if len(start) == 2 and start[0] & 0x0F == 8 and not int.from_bytes(start) % 31:
        place = packed.tell()
        try:
            zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.read(_BLOCK), _BLOCK)
        except zlib.error:
            return zlib.decompressobj(zlib.MAX_WBITS)
        finally:
            packed.seek(place)
    return zlib.decompressobj(-zlib.MAX_WBITS)
