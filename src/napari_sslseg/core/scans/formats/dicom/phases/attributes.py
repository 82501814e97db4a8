"""Read what may distinguish the volumes of one series: echo, time point, b-value and so on."""

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

from napari_sslseg.core.scans.formats.dicom.phases.private import (
    private_b_value,
    private_component,
    private_direction,
)

MOST_DIMENSIONS = 6

_ENTRIES: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    "kind": (
        (("MRImageFrameTypeSequence", "FrameType"), ("CTImageFrameTypeSequence", "FrameType")),
        ("ImageType",),
    ),
    "component": ((("MRImageFrameTypeSequence", "ComplexImageComponent"),), ()),
    "stack": ((("FrameContentSequence", "StackID"),), ()),
    "echo": ((("MREchoSequence", "EffectiveEchoTime"),), ("EchoTime", "EchoNumbers")),
    "time-point": (
        (("FrameContentSequence", "TemporalPositionIndex"),),
        ("TemporalPositionIdentifier",),
    ),
    "cardiac-phase": (
        (("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),),
        (),
    ),
    "respiratory-phase": (
        (("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),),
        (),
    ),
    "trigger": (
        (("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),),
        ("TriggerTime",),
    ),
    "frame-time": (
        (("TemporalPositionSequence", "TemporalPositionTimeOffset"),),
        ("FrameReferenceTime",),
    ),
    "kernel": ((("CTReconstructionSequence", "ConvolutionKernel"),), ()),
    "tube-voltage": ((("CTXRayDetailsSequence", "KVP"),), ()),
    "inversion": ((("MRModifierSequence", "InversionTimes"),), ("InversionTime",)),
    "flip-angle": ((("MRTimingAndRelatedParametersSequence", "FlipAngle"),), ()),
    "b-value": ((("MRDiffusionSequence", "DiffusionBValue"),), ()),
    "direction": (
        (("MRDiffusionSequence", "DiffusionGradientDirectionSequence"),),
        ("DiffusionGradientOrientation",),
    ),
    "velocity": ((("MRVelocityEncodingSequence", "VelocityEncodingMaximumValue"),), ()),
    "velocity-direction": ((("MRVelocityEncodingSequence", "VelocityEncodingDirection"),), ()),
    "asl": ((("MRArterialSpinLabelingSequence", "ASLContext"),), ()),
    "option": ((), ("ScanOptions",)),
    "acquisition": (
        (("FrameContentSequence", "FrameAcquisitionNumber"),),
        ("AcquisitionNumber",),
    ),
    # Texts, of which names give only a number, or the order: they may identify the patient.
    "description": ((), ("SeriesDescription",)),
    "comment": ((), ("ImageComments",)),
    **{f"dimension-{number + 1}": ((), ()) for number in range(MOST_DIMENSIONS)},
    "acquired": (
        (
            ("FrameContentSequence", "FrameAcquisitionDateTime"),
            ("FrameContentSequence", "FrameReferenceDateTime"),
        ),
        ("AcquisitionDateTime",),
    ),
    "instance": ((), ("InstanceNumber",)),
}
"""Where multi-frame and classic files store each entry, the first that is present counts.

Sequences of functional groups with their keywords, then attributes of the dataset.
"""

PHASES = tuple(_ENTRIES)
"""Entries of :attr:`~..planes.plane.ImagePlane.phase`, in the order of the division."""

_PRIVATE: dict[str, Callable[[Dataset], object]] = {
    "component": private_component,
    "b-value": private_b_value,
    "direction": private_direction,
}


def read_phase(dataset: Dataset, find: Callable[[str, str], Any]) -> tuple[str, ...]:
    """Read what may distinguish volumes of one series; an empty text where it is absent.

    Parameters
    ----------
    dataset : Dataset
        Attributes of the file.
    find : callable
        Looks up a keyword in a sequence of the functional groups, then in the dataset.
    """
    dimensions = find("FrameContentSequence", "DimensionIndexValues")
    if dimensions is None:
        dimensions = []
    elif isinstance(dimensions, int):
        dimensions = [dimensions]
    phase = []
    for name, (in_groups, in_dataset) in _ENTRIES.items():
        values = [find(sequence, keyword) for sequence, keyword in in_groups]
        values += [dataset.get(keyword) for keyword in in_dataset]
        if name.startswith("dimension-"):
            values += dimensions[PHASES.index(name) - PHASES.index("dimension-1") :][:1]
        if name == "acquired" and dataset.get("AcquisitionTime"):
            # Scans may last beyond midnight.
            values.append(f"{dataset.get('AcquisitionDate') or ''}{dataset.AcquisitionTime}")
        # 0 is a value.
        value = next((value for value in values if value not in (None, "")), None)
        if value is None and name in _PRIVATE:
            value = _PRIVATE[name](dataset)
        phase.append(_as_text(value))
    return tuple(phase)


def _as_text(value: object) -> str:
    """Convert a value to text; equal numbers, such as 5 and 5.00, to the same."""
    if isinstance(value, int | float):
        whole = float(value).is_integer()
        return str(int(value)) if whole else f"{float(value):.7g}"
    return "" if value is None else str(value)
