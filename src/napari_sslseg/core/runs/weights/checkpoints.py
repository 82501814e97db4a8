"""Weights on disk, and their transfer into another network with a report on every tensor.

Weights are safetensors files, which contain tensors but no code, each with a JSON sidecar that
describes them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.atomic import atomic_path, write_text
from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import utf8_path
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.networks.size_limit import Shapes, tensor_shapes
from napari_sslseg.core.runs.weights.safetensors_header import StoredTensor, misfits, read_header
from napari_sslseg.core.settings.stages import Transfer

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TransferReport:
    """Report on every tensor of the source and of the target.

    Attributes
    ----------
    copied : tuple of str
        Names copied.
    skipped : tuple of (str, str)
        Names not copied, with the reason.
    mismatched : tuple of (str, tuple, tuple)
        Names with different shapes, source and target shape; not copied.
    """

    copied: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def summary(self) -> str:
        """The numbers of tensors in one sentence."""
        others = {
            "belong to other parts or have no counterpart": len(self.skipped),
            "have another shape": len(self.mismatched),
        }
        left = [f"{count} {why}" for why, count in others.items() if count]
        return f"{len(self.copied)} tensors copied" + "".join(f"; {part}" for part in left) + "."

    def as_dict(self) -> dict[str, Any]:
        """All names, for the record of the run."""
        return {
            "copied": list(self.copied),
            "skipped": [{"name": name, "reason": why} for name, why in self.skipped],
            "mismatched": [
                {"name": name, "source": list(a), "target": list(b)}
                for name, a, b in self.mismatched
            ],
        }


def save_weights(path: Path, model: "nn.Module", description: Mapping[str, Any]) -> Path:
    """Write ``path`` (.safetensors) and its sidecar (.json), each as a whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.safetensors``.
    model : nn.Module
        Model on any device, whose state dict is written.
    description : mapping
        Description for the sidecar, such as step and metrics.
    """
    return save_tensors(path, model.state_dict(), description)


def save_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", description: Mapping[str, Any]
) -> Path:
    """Write tensors by name as :func:`save_weights` does."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        # Written by Python, so that a full disk raises an OSError.
        temporary.write_bytes(save(tensors))
    sidecar = {
        "format": 1,
        **description,
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }
    write_text(path.with_suffix(".json"), json.dumps(sidecar, indent=1))
    return path


def load_weights(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a safetensors file to the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or has values that are not finite.
    """
    weights = read_tensors(path, read_header(path))
    check_finite(path, weights)
    return weights


def read_tensors(path: Path, header: Mapping[str, StoredTensor]) -> "dict[str, Tensor]":
    """Read the tensors of a safetensors file in the order of its checked header."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with utf8_path(path) as readable:
            found = load_file(readable, device="cpu")
        return {name: found[name] for name in header}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The weights {path} are damaged ({error}); use another checkpoint or run again."
        ) from error


def check_finite(path: Path, weights: "Mapping[str, Tensor]") -> None:
    """Refuse weights with NaN or infinity."""
    import torch

    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"The weights {path} have values that are not finite ({printable(name, LONGEST)}); "
                "use another checkpoint or train again."
            )


def check_weights(path: Path, shapes: Shapes) -> None:
    """Compare the header of a safetensors file with a network.

    Raises
    ------
    CheckpointError
        If the file is damaged, or a tensor is missing, unknown, or of another shape or type.
    """
    stored = read_header(path)
    wrong = sorted(set(shapes) - set(stored)) or sorted(misfits(stored, shapes))
    if wrong:
        raise CheckpointError(
            f"The weights {path} do not fit the network of their run "
            f"({printable(wrong[0], LONGEST)} and {len(wrong) - 1} others differ); the run folder "
            "was changed, so train again."
        )


def restore(model: "nn.Module", path: Path) -> None:
    """Load weights into the same network; every tensor must fit.

    Raises
    ------
    CheckpointError
        If the file is damaged, or a tensor is missing, unknown, or of another shape or type.
    """
    check_weights(path, tensor_shapes(model))
    fill(model, load_weights(path), path)


def fill(model: "nn.Module", weights: "Mapping[str, Tensor]", path: Path) -> None:
    """Copy weights into the same network; every tensor must fit.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unknown, or of another shape; the message names ``path``.
    """
    target = model.state_dict()
    wrong = sorted(set(weights) ^ set(target)) or sorted(
        name for name in target if weights[name].shape != target[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"The weights {path} do not fit the network of their run ({wrong[0]} and "
            f"{len(wrong) - 1} others differ); the run folder was changed, so train again."
        )
    model.load_state_dict(weights)


def transfer(
    weights: "Mapping[str, Tensor]", model: "nn.Module", parts: Transfer
) -> TransferReport:
    """Copy the named parts of a pretrained network into ``model``.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Tensors of the pretrained network.
    model : nn.Module
        Network with parts of the same names; changed in place.
    parts : {"encoder", "encoder+decoder"}
        Parts to copy. The output layer belongs to the pretext task and is never copied.

    Returns
    -------
    TransferReport
        With every tensor of both networks.

    Raises
    ------
    CheckpointError
        If nothing could be copied.
    """
    import torch

    prefixes = tuple(f"{part}." for part in parts.split("+"))
    target = model.state_dict()
    copied, skipped, mismatched = [], [], []
    with torch.no_grad():
        for name, tensor in weights.items():
            if not name.startswith(prefixes):
                skipped.append((name, f"not part of the {parts}"))
            elif name not in target:
                skipped.append((name, "the network has no tensor of this name"))
            elif tensor.shape != target[name].shape:
                mismatched.append((name, tuple(tensor.shape), tuple(target[name].shape)))
            else:
                target[name].copy_(tensor)
                copied.append(name)
    for name in target:
        if name not in weights:
            skipped.append((name, "not in the pretrained weights; keeps its random values"))
    if not copied:
        raise CheckpointError(
            f"None of the pretrained tensors fits the {parts} of this network; "
            "use the network settings of the pretraining."
        )
    return TransferReport(tuple(copied), tuple(skipped), tuple(mismatched))
