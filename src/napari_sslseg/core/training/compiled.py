"""Compile a network with ``torch.compile``, and use the plain network where that fails.

The network is compiled in place, so its weights keep their names. Each batch shape is compiled
separately, so that the code of a step does not depend on earlier steps, and an interrupted run
resumes exactly.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from napari_sslseg.core.common.compute.distributed import world_size
from napari_sslseg.core.common.compute.memory import is_out_of_memory
from napari_sslseg.core.common.events import Message

# Errors of PyTorch where it cannot compile: its own are RuntimeErrors, as is an unsupported
# platform; a missing compiler, header or package raises the others.
FAILURES = (RuntimeError, ImportError, OSError, AssertionError, subprocess.SubprocessError)
MOST_CHARACTERS = 200


class CompiledNetwork:
    """A network that is compiled in place, unless that fails.

    Parameters
    ----------
    network : nn.Module
        Compiled when it is first used.
    wanted : bool
        Whether to compile it at all.

    Attributes
    ----------
    on : bool
        Whether the network is compiled.
    message : Message or None
        Why it cannot be compiled, if that is known from the beginning.
    """

    def __init__(self, network: nn.Module, wanted: bool) -> None:
        self._network = network
        self.on = wanted
        self.message: Message | None = None
        if not wanted:
            return
        try:
            if world_size() > 1:
                raise RuntimeError("compiling works with a single process only")
            if not getattr(network, "compilable", True):
                raise RuntimeError("this task changes its layers in every step")
            network.compile(dynamic=False)
        except FAILURES as error:
            self.message = self.give_up(error)

    def attempt(self, work: Callable[[], None]) -> BaseException | None:
        """Call a function, and return the error that should be handled by calling it again.

        This is an error of too little memory or, while the network is compiled, any error that
        compiling may cause. Other errors are raised.
        """
        try:
            work()
        except (MemoryError, *FAILURES) as error:
            if not (self.on or is_out_of_memory(error)):
                raise
            # The frames of the traceback keep tensors that fill the memory.
            return error.with_traceback(None)
        return None

    def give_up(self, error: BaseException) -> Message:
        """Use the plain network from now on; returns a message with the reason."""
        self.close()
        return Message(
            f"The network could not be compiled ({_first_line(error)}), so the training continues "
            "without compiling."
        )

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Use the plain network in this block: compiling would take longer than a validation."""
        compiled = self._network._compiled_call_impl
        self._network._compiled_call_impl = None
        try:
            yield
        finally:
            self._network._compiled_call_impl = compiled

    def close(self) -> None:
        """Restore the plain network, and free the compiled code."""
        if not self.on:
            return
        self._network._compiled_call_impl = None
        self.on = False
        torch.compiler.reset()


def _first_line(error: BaseException) -> str:
    """First line of the cause of an error, cut to a length that fits into a sentence."""
    cause = error
    while (inner := cause.__cause__ or getattr(cause, "inner_exception", None)) is not None:
        cause = inner
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = lines[0].rstrip(".:") if lines else type(cause).__name__
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
