"""The state of a training in memory: tensors and numbers from which it is resumed exactly.

:meth:`napari_sslseg.core.training.loop.Loop.state` fills it and ``Loop.restore`` reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

from napari_sslseg.core.common.errors import CheckpointError


class DamagedStateError(CheckpointError):
    """A state file that is damaged for good, unlike one that cannot be read at the moment."""


@dataclass(frozen=True, eq=False)
class State:
    """Tensors and numbers of a training after ``step``; the training loop defines their meaning."""

    step: int
    tensors: "Mapping[str, Tensor]"
    numbers: Mapping[str, Any]

    def part(self, prefix: str) -> "dict[str, Tensor]":
        """Tensors whose names begin with ``prefix`` and a dot, by the rest of the name."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }
