"""Give memory back to the system."""

import ctypes
import sys


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can be asked to.

    Between scans glibc keeps large freed blocks, and small ones in use among them may keep it
    from using them again: reading hundreds of scans can then take as much memory as all of them.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
