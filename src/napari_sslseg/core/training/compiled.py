"""Compiling a network with ``torch.compile``, and doing without where that fails.

The network is compiled in place, so that its weights keep their names. Every shape of a batch gets
code of its own: then the code that a step runs does not depend on what ran before, and a run that
was interrupted goes on exactly.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from napari_sslseg.core.common.compute.distributed import world_size
from napari_sslseg.core.common.compute.memory import is_out_of_memory
from napari_sslseg.core.common.events import Message

# What PyTorch raises where it cannot compile: its own errors are RuntimeErrors, as is an
# unsupported platform; a missing compiler, header or package gives the others.
FAILURES = (RuntimeError, ImportError, OSError, AssertionError, subprocess.SubprocessError)
MOST_CHARACTERS = 200


class Compiled:
    """Compiles a network, until that fails.

    Parameters
    ----------
    network : nn.Module
        Compiled in place; nothing happens before it is first used.
    wanted : bool
        Whether to compile it at all.

    Attributes
    ----------
    on : bool
        Whether the network is compiled.
    message : Message or None
        Why it is not, if it was wanted and could not even begin.
    """

    def __init__(self, network: nn.Module, wanted: bool) -> None:
        self._network = network
        self.on = wanted
        self.message: Message | None = None
        if wanted:
            self._begin()

    def _begin(self) -> None:
        try:
            if world_size() > 1:
                raise RuntimeError("with several processes none could go on without it alone")
            if not getattr(self._network, "compilable", True):
                raise RuntimeError("this task changes its layers in every step")
            self._network.compile(dynamic=False)
        except FAILURES as error:
            self.message = self.give_up(error)

    def attempt(self, work: Callable[[], None]) -> BaseException | None:
        """Do some work; the error if there is too little memory, without what it had in use.

        Likewise if compiling may have led to it: an error of another kind comes again without.
        """
        try:
            work()
        except (MemoryError, *FAILURES) as error:
            if not (self.on or is_out_of_memory(error)):
                raise
            # Its frames hold the tensors that fill the memory.
            return error.with_traceback(None)
        return None

    def give_up(self, error: BaseException) -> Message:
        """Use the plain network from now on, and say why in one sentence."""
        self.close()
        return Message(
            f"The network could not be compiled ({_first_line(error)}), so the training goes on "
            "without."
        )

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Use the plain network for now: a validation is too short to compile for."""
        compiled = self._network._compiled_call_impl
        self._network._compiled_call_impl = None
        try:
            yield
        finally:
            self._network._compiled_call_impl = compiled

    def close(self) -> None:
        """Leave the network as it was, and forget the code."""
        if not self.on:
            return
        self._network._compiled_call_impl = None
        self.on = False
        torch.compiler.reset()


def _first_line(error: BaseException) -> str:
    """What an error says, short enough to stand in a sentence."""
    cause = error
    while (inner := cause.__cause__ or getattr(cause, "inner_exception", None)) is not None:
        cause = inner
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = lines[0].rstrip(".:") if lines else type(cause).__name__
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
