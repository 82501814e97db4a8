"""TODO."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

from napari_sslseg.core.common.errors import CheckpointError


class DamagedStateError(CheckpointError):
    """A state that is not what a training wrote, and never will be again."""


@dataclass(frozen=True, eq=False)
class State:
    """Tensors and numbers of a training after ``step``; what they mean is for the loop to know."""

    step: int
    tensors: "Mapping[str, Tensor]"
    numbers: Mapping[str, Any]

    def part(self, prefix: str) -> "dict[str, Tensor]":
        """Tensors whose names begin with ``prefix`` and a dot, by the rest of their names."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }
