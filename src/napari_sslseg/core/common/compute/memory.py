"""Return memory to the operating system, and recognise out-of-memory errors."""

import ctypes
import sys


def release_memory() -> None:
    """Return freed memory to the operating system, where the C library supports it.

    glibc keeps large freed blocks between scans, and small allocations among them may prevent it
    from reusing them. Reading hundreds of scans could then take as much memory as all of them.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine is out of memory."""
    import torch

    # On the CPU the allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
