"""Give memory back to the system."""

import ctypes
import sys


def release_memory() -> None:
    """Return freed memory to the system, where the C library can be asked to.

    Between scans glibc keeps large freed blocks, and small ones in use among them may keep it
    from using them again: reading hundreds of scans can then take as much memory as all of them.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device, or the machine, has too little memory."""
    import torch

    # On the CPU it is a plain RuntimeError of the allocator.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
