"""Import weights of other programs as a run folder, from which a training can start."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import PATH, CheckpointError, ConfigError, check_type
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.networks.size_limit import planned_network, tensor_shapes
from napari_sslseg.core.runs.run import Run, RunWriter
from napari_sslseg.core.runs.run_files import claim
from napari_sslseg.core.runs.stage_folders import remove_plan
from napari_sslseg.core.runs.weights.checkpoints import check_finite, save_tensors
from napari_sslseg.core.runs.weights.foreign import read_foreign
from napari_sslseg.core.runs.weights.match_names import (
    MEAN,
    PARTS,
    Matching,
    match_tensors,
    with_channels,
)
from napari_sslseg.core.samples.build import default_preprocessing, sample_dimensions
from napari_sslseg.core.settings.networks import NetworkSettings, check_dimensions, named_network
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.stages import PretrainSettings

if TYPE_CHECKING:
    from torch import Tensor


def import_weights(
    file: str | Path,
    *,
    network: NetworkSettings | str,
    out: str | Path,
    preprocessing: AnyPreprocessing | None = None,
    renames: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Run:
    """Write weights of another program as a run folder of the kind ``pretrain``.

    Parameters
    ----------
    file : path-like
        ``.safetensors``, ``.pt``, ``.pth`` or ``.ckpt``; code in it is never run.
    network : NetworkSettings or str
        Network of this program that has these weights, or its name.
    out : path-like
        Run folder, to be given as ``init`` of a pretraining or fine-tuning.
    preprocessing : Preprocessing or VolumePreprocessing, optional
        Preprocessing that the network was trained with; by default that for MR.
    renames : mapping of str to str, optional
        Prefixes of names in the file, and their replacements.
    overwrite : bool
        Whether ``out`` may contain an older run.

    Returns
    -------
    Run
        With the encoder and decoder tensors that were found, in float32. ``record["transfer"]``
        lists every tensor. The output layer belongs to the task and is left out.

    Raises
    ------
    CheckpointError
        If the file cannot be used, or no tensor of it fits the encoder.
    ConfigError
        If network and preprocessing do not fit each other, or the file is in ``out``.
    StorageError
        If ``out`` cannot be written.
    """
    import torch

    check_type(file, PATH, "file", "the file of the weights, such as 'weights.pt'")
    check_type(out, PATH, "out", "the folder of the new run, such as out='runs/imported'")
    file, out = Path(file), Path(out)
    if isinstance(network, str):
        network = named_network(network)
    if preprocessing is None:
        preprocessing = default_preprocessing("MR", network.dimensions)
    check_dimensions(network, sample_dimensions(preprocessing))
    plan = tensor_shapes(planned_network(network, preprocessing.channels, 1))
    # Without the output layer, since there is no task yet.
    ours = {name: shape for name, (shape, _) in plan.items() if name.startswith(PARTS)}
    if file.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            f"{file} is in {out}, which the new run would replace; choose another folder."
        )
    with run_lock(out):
        claim(out, overwrite=overwrite)
        weights = read_foreign(file)
        theirs = {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
        found = match_tensors(theirs, ours, network, renames=renames, ordered=weights.ordered)
        found.skipped |= dict(weights.left_out)
        if not any(name.startswith("encoder.") for name in found.copied):
            raise CheckpointError(
                f"Nothing in {file} fits the encoder of the network {network.kind}"
                f"{_example(found, theirs)}; choose its network and widths, or rename its tensors "
                "with --map (in Python renames=)."
            )
        tensors = {}
        for name, (source, how) in found.copied.items():
            tensor = weights.tensors[source]
            if how == MEAN:
                tensor = with_channels(tensor, plan[name][0][1])
            tensors[name] = _as_stored(tensor, fractions=plan[name][1])
        check_finite(file, tensors)
        settings = PretrainSettings(network=network, preprocessing=preprocessing)
        remove_plan(out)
        writer = RunWriter(
            out,
            {
                "kind": "pretrain",
                "settings": settings.model_dump(mode="json"),
                "task": None,
                "init": file.name,
                "transfer": describe_matching(found, ours),
                "scans": [],
                "slices": {},
                "seed": settings.training.seed,
                "device": str(torch.device("cpu")),
            },
        )
        save_tensors(out / "last.safetensors", tensors, {"step": 0, "metrics": {}})
        return writer.finish("finished")


def _as_stored(tensor: "Tensor", *, fractions: bool) -> "Tensor":
    """A copy, since the file may be mapped, in float32, or int64 for counters."""
    import torch

    return tensor.detach().to(torch.float32 if fractions else torch.int64, copy=True)


def _example(found: Matching, theirs: Mapping[str, Any]) -> str:
    """Name one of the tensors, to show the user which names there are."""
    from napari_sslseg.core.common.text import printable

    if found.mismatched:
        name, (target, there, here) = next(iter(found.mismatched.items()))
        return f" ({printable(name, 80)} is {there}, but {target} is {here})"
    return f" (it has names such as {printable(next(iter(theirs)), 80)})"


def describe_matching(found: Matching, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Every tensor of the file and of the network, for the record."""
    return {
        "copied": [
            {"name": source, "as": name, "by": how} for name, (source, how) in found.copied.items()
        ],
        "skipped": [{"name": name, "reason": why} for name, why in found.skipped.items()],
        "mismatched": [
            {"name": name, "as": target, "source": list(there), "target": list(here)}
            for name, (target, there, here) in found.mismatched.items()
        ],
        "missing": [name for name in ours if name not in found.copied],
    }
