"""What Ctrl-C does: one line and exit code 130, at any time. Loads nothing."""

import os
import signal
from types import FrameType

INTERRUPTED = 130
_LINE = b"napari-sslseg: Interrupted.\n"


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once, such as while modules are loaded or it ends.

    Nothing is lost, since files are written under another name. A process that was started in the
    background, for which the shell ignores Ctrl-C, goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise a KeyboardInterrupt, and a second one end the process at once."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt_once)


def interrupt_once(number: int, frame: FrameType | None) -> None:
    """Raise a KeyboardInterrupt; the next Ctrl-C ends the process at once."""
    leave_on_interrupt()
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    # Written without Python's buffers, which the interrupted code may be using.
    os.write(2, _LINE)
    os._exit(INTERRUPTED)
