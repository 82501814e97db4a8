"""Dice of MR fine-tunings with hard, soft and no clipping of grey values.

    python benchmarks/mr_clipping.py --data FOLDER --draws 2

Sets: organs of each data set that is in the folder (hippocampus, left ventricle, left atrium), the
hippocampus with spikes (20 voxels of each scan have up to 20 times its largest value), and a
phantom: an organ, and a lesion of 0.2 % of the voxels that is brighter than everything else. A draw
chooses three training patients and the seed; scores are the mean Dice of validation patients.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_sslseg import core
from napari_sslseg.core.scans.labelled import LabelledScan, scan_subject

ARMS: dict[str, dict[str, Any]] = {
    "hard": {"clipping": "hard"},
    "none": {"clipping": "hard", "clip_percentiles": (0, 100)},
    "soft": {"clipping": "soft"},
}
SETS: dict[str, dict[str, Any]] = {
    "msd_hippocampus": {"size": (64, 48), "neighbours": 1},
    "sunnybrook_lv": {"spacing": 10 / 3, "size": (96, 96)},
    "left_atrium_mr": {"spacing": 2.5},
}
SPLITS = Path(__file__).parent / "efficiency" / "splits.json"
PATIENTS, VALIDATION = 3, 8
STEPS, PHANTOM_STEPS = 400, 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--sets", nargs="*", help="all by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name, pairs, validation, settings in chosen_sets(options.data, options.sets):
        for draw in range(options.draws):
            training = drawn(pairs, draw)
            for arm, changes in ARMS.items():
                found = dice(training, validation, settings | changes, draw, name)
                print(
                    json.dumps({"set": name, "draw": draw, "arm": arm, "dice": found}), flush=True
                )


def chosen_sets(
    data: Path, names: list[str] | None
) -> Iterator[tuple[str, list[LabelledScan], list[LabelledScan], dict[str, Any]]]:
    """Name, training scans, validation scans and preprocessing of each set."""
    known = json.loads(SPLITS.read_text())
    for name, settings in SETS.items():
        if not (data / name).is_dir():
            continue
        pairs = core.pair_scans(data / name / "images", data / name / "labels")
        split = known.get(name) or half(sorted({scan_subject(pair) for pair in pairs}))
        wanted = set(split["validation"][:VALIDATION])
        training = [pair for pair in pairs if scan_subject(pair) in split["training"]]
        validation = [pair for pair in pairs if scan_subject(pair) in wanted]
        if not names or name in names:
            yield name, training, validation, settings
        spiked = f"{name} with spikes"
        if name == "msd_hippocampus" and (not names or spiked in names):
            yield spiked, [*map(with_spikes, training)], [*map(with_spikes, validation)], settings
    if not names or "lesions" in names:
        lesions = [phantom(number) for number in range(12)]
        yield "lesions", lesions[:6], lesions[6:], {}


def half(subjects: list[str]) -> dict[str, list[str]]:
    return {
        "training": subjects[: len(subjects) // 2],
        "validation": subjects[len(subjects) // 2 :],
    }


def drawn(pairs: list[LabelledScan], draw: int) -> list[LabelledScan]:
    """Scans of a few patients; all phantoms."""
    subjects = sorted({scan_subject(pair) for pair in pairs})
    if len(subjects) <= 2 * PATIENTS:
        return pairs
    order = np.random.default_rng([7, draw]).permutation(len(subjects))
    chosen = {subjects[number] for number in order[:PATIENTS]}
    return [pair for pair in pairs if scan_subject(pair) in chosen]


def with_spikes(pair: LabelledScan) -> LabelledScan:
    scan, labels = pair.load()
    rng = np.random.default_rng([*scan.name.encode()])
    values = scan.data.astype(np.float32)
    spikes = rng.integers(0, values.size, 20)
    values.reshape(-1)[spikes] = values.max() * 20 * rng.uniform(0.5, 1, 20)
    return LabelledScan(replace(scan, data=values), labels)


def phantom(number: int) -> LabelledScan:
    """A body with an organ, and a small lesion that is brighter than the organ."""
    from napari_sslseg.core.scans.geometry import Geometry

    rng = np.random.default_rng(number)
    shape = (16, 32, 32)
    place = np.indices(shape) - np.array([8, 16, 16]).reshape(3, 1, 1, 1)
    labels = np.zeros(shape, np.uint8)
    body = (place[1:] ** 2).sum(0) < 14**2
    centre = rng.uniform(-4, 4, 3).reshape(3, 1, 1, 1) * np.array([0.5, 1, 1]).reshape(3, 1, 1, 1)
    labels[((place - centre) ** 2).sum(0) < 6**2] = 1
    corner = [*rng.integers(1, 12, 1), *rng.integers(8, 20, 2)]
    labels[
        tuple(slice(start, start + side) for start, side in zip(corner, (4, 3, 3), strict=True))
    ] = 2
    values = np.where(body, 60.0, 3.0) + np.select([labels == 1, labels == 2], [60, 140])
    values += rng.normal(0, 8, shape)
    geometry = Geometry(np.diag([-1.0, -1, -1, 1])[[2, 1, 0, 3]], shape)
    scan = core.Volume(
        np.abs(values).astype(np.float32), geometry, "MR", f"p{number}", f"p{number}"
    )
    return LabelledScan(scan, replace(scan, data=labels))


def dice(
    training: list[LabelledScan],
    validation: list[LabelledScan],
    changes: dict[str, Any],
    draw: int,
    name: str,
) -> dict[int, float]:
    """Mean Dice by class over the validation scans."""
    is_phantom = name == "lesions"
    settings = core.FinetuneSettings(
        network=core.Network.preset("tiny" if is_phantom else "small"),
        preprocessing=core.Preprocessing(modality="MR", **changes),
        training=core.Training(
            steps=PHANTOM_STEPS if is_phantom else STEPS,
            batch_size=8,
            learning_rate=1e-3,
            gradient_clip=12.0,
            seed=draw,
        ),
        average_decay=0.99,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = core.finetune(
            training, out=Path(folder) / "run", settings=settings, device="cpu", modality="MR"
        )
        segmenter = core.load_segmenter(run, "cpu")
    scores: dict[int, list[float]] = {value: [] for value in segmenter.classes}
    for pair in validation:
        scan, truth = pair.load("MR")
        predicted = core.predict(segmenter, scan, probabilities=False)
        found = core.evaluate(predicted, truth, classes=segmenter.classes).classes
        for value, score in found.items():
            if score.dice is not None:
                scores[value].append(score.dice)
    return {value: round(float(np.mean(each)), 3) for value, each in scores.items()}


if __name__ == "__main__":
    main()
