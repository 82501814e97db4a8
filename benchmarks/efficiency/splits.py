"""Subjects for training, validation and test, by patient, fixed in a file."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sslseg import core
from napari_sslseg.core.samples.warnings import default_neighbours
from napari_sslseg.core.scans.labelled import scan_geometry, scan_subject

SPLITS = Path(__file__).with_name("splits.json")
PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class DataSet:
    """A data set as described in the file of splits.

    ``neighbours`` is the package's default number of neighbouring slices for its scans. Structures
    of the values ``left_out`` count as background.
    """

    name: str
    preprocessing: core.Preprocessing
    classes: tuple[int, ...]
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    neighbours: int = 0
    left_out: tuple[int, ...] = ()

    def sampled(self, spacing: float) -> core.Preprocessing:
        """Preprocessing with pixels of another size in mm, and a canvas of the same size in mm."""
        before, size = self.preprocessing.spacing, self.preprocessing.size
        if not isinstance(before, float) or size is None:
            raise SystemExit(f"The pixels of {self.name} are those of its scans; leave it out.")
        height, width = (16 * max(1, round(side * before / spacing / 16)) for side in size)
        return self.preprocessing.model_copy(update={"spacing": spacing, "size": (height, width)})

    def part(self, name: str) -> tuple[str, ...]:
        """Subjects of a part."""
        return {"training": self.training, "validation": self.validation, "test": self.test}[name]


def read_splits(path: Path = SPLITS) -> dict[str, DataSet]:
    """Data sets by name."""
    found = {}
    for name, about in json.loads(path.read_text(encoding="utf-8")).items():
        parts = {part: tuple(about[part]) for part in PARTS}
        preprocessing = core.Preprocessing(**about["preprocessing"])
        near, classes = about.get("neighbours", 0), tuple(about["classes"])
        left_out = tuple(about.get("left_out", ()))
        found[name] = DataSet(
            name, preprocessing, classes, **parts, neighbours=near, left_out=left_out
        )
    return found


# All arms of a data set have the same pixels. Hearts and abdomens are sampled more coarsely, so
# that complete slices fit. The abdomens have grey values of 8 bit, not HU.
ABOUT: dict[str, dict[str, Any]] = {
    "msd_hippocampus": {"preprocessing": {"size": (64, 48)}, "classes": (1, 2)},
    "sunnybrook_lv": {"preprocessing": {"spacing": 10 / 3, "size": (96, 96)}, "classes": (1,)},
    "left_atrium_mr": {"preprocessing": {"spacing": 1.25, "size": (112, 96)}, "classes": (1,)},
    "abdomen_ct": {
        "preprocessing": {"spacing": 3.0, "size": (128, 128)},
        # Spleen, right and left kidney, liver, pancreas.
        "classes": (1, 2, 3, 6, 11),
        "left_out": (4, 5, 7, 8, 9, 10, 12, 13),
    },
    "head_neck_ct": {
        "preprocessing": {"modality": "CT", "normalize": "slice", "size": (128, 128)},
        "classes": (1, 2, 3, 4, 7),
    },
}


def make_splits(data: Path) -> dict[str, dict[str, Any]]:
    """Split the subjects; this function made ``splits.json``.

    The test patients of Sunnybrook are those that its repository does not train on; its other
    twenty patients and all subjects of the other data sets are split at random.
    """
    found = {}
    for name, about in ABOUT.items():
        folder = data / name
        pairs = core.pair_scans(folder / "images", folder / "labels")
        subjects = {scan_subject(pair) for pair in pairs}
        test: set[str] = set()
        shares = {"training": 0.6, "validation": 0.2, "test": 0.2}
        if (folder / "index.csv").is_file():
            rows = csv.DictReader((folder / "index.csv").read_text().splitlines())
            test = {row["patient"] for row in rows if row["repo_split"] != "train"} & subjects
            shares = {"training": 0.7, "validation": 0.3}
        parts = core.split_subjects(subjects - test, shares, 0)
        near = default_neighbours(scan_geometry(pairs[0]).spacing, "axial")
        whole = {**about, "neighbours": near}
        found[name] = {**whole, **({"test": sorted(test)} if test else {}), **parts}
    return found
