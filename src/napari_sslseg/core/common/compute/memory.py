"""Free memory, returning memory to the operating system, and out-of-memory errors."""

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


def available_memory(device: "torch.device | None" = None) -> int | None:
    """Bytes of memory that are free for this process.

    Parameters
    ----------
    device : torch.device, optional
        A CUDA device, or the CPU (the default).

    Returns
    -------
    int or None
        None where it cannot be found out.
    """
    if device is not None and device.type == "cuda":
        import torch

        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device is not None and device.type != "cpu":
        return None
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")
        if limit.isdigit():
            found.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass  # Not Linux, or not version 2 of control groups.
    return max(0, min(found)) if found else None


def gigabytes(size: float) -> str:
    """Return a size in bytes as text, such as "1.5 GB"."""
    number = size / 1024**3
    return f"{number:.2g} GB" if number < 10 else f"{number:,.0f} GB"
