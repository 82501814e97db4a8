"""Names of label classes and their SNOMED CT codes, for files that store both."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from napari_sslseg.core.common.errors import ConfigError

Code = tuple[str, str, str]
"""Code value, coding scheme and meaning, such as ("10200004", "SCT", "Liver")."""

Algorithm = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
"""How labels were created, as DICOM calls it."""

STRUCTURE: Code = ("91723000", "SCT", "Anatomical Structure")
ABNORMAL: Code = ("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE: Code = ("85756007", "SCT", "Tissue")

SIDES: dict[str, Code] = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}

STRUCTURES: dict[str, tuple[str, str]] = {
    "adrenal gland": ("23451007", "Adrenal gland"),
    "amygdala": ("4958002", "Amygdala"),
    "aorta": ("15825003", "Aorta"),
    "bladder": ("89837001", "Bladder"),
    "bone": ("272673000", "Bone"),
    "brain": ("12738006", "Brain"),
    "brain stem": ("119238007", "Brain Stem"),
    "caudate nucleus": ("11000004", "Caudate Nucleus"),
    "cerebellum": ("113305005", "Cerebellum"),
    "clavicle": ("51299004", "Clavicle"),
    "colon": ("71854001", "Colon"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "eye": ("81745001", "Eye"),
    "fat": ("256674009", "Fat"),
    "femur": ("71341001", "Femur"),
    "gallbladder": ("28231008", "Gallbladder"),
    "heart": ("80891009", "Heart"),
    "hip joint": ("24136001", "Hip joint"),
    "hippocampus": ("5366008", "Hippocampus"),
    "humerus": ("85050009", "Humerus"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    "kidney": ("64033007", "Kidney"),
    "left atrium": ("82471001", "Left atrium"),
    "left ventricle": ("87878005", "Left ventricle"),
    "left ventricle myocardium": ("49848007", "Left Ventricle Myocardium"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "muscle": ("71616004", "Muscle"),
    "ovary": ("15497006", "Ovary"),
    "pancreas": ("15776009", "Pancreas"),
    "parotid gland": ("45289007", "Parotid gland"),
    "pelvis": ("816092008", "Pelvis"),
    "portal vein": ("32764006", "Portal vein"),
    "prostate": ("41216001", "Prostate"),
    "putamen": ("89278009", "Putamen"),
    "rectum": ("34402009", "Rectum"),
    "rib": ("113197003", "Rib"),
    "right atrium": ("73829009", "Right atrium"),
    "right ventricle": ("53085002", "Right ventricle"),
    "sacrum": ("54735007", "Sacrum"),
    "scapula": ("79601000", "Scapula"),
    "skin": ("39937001", "Skin"),
    "skull": ("89546000", "Skull"),
    "small intestine": ("30315005", "Small intestine"),
    "spinal cord": ("2748008", "Spinal cord"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "thalamus": ("42695009", "Thalamus"),
    "thyroid": ("69748006", "Thyroid"),
    "trachea": ("44567001", "Trachea"),
    "uterus": ("35039007", "Uterus"),
    "vertebra": ("51282000", "Vertebra"),
    "white matter": ("389080008", "White Matter"),
}
"""SNOMED CT codes of common structures, by name; paired structures have a side."""

ABNORMALITIES: dict[str, tuple[str, str]] = {
    "cyst": ("367643001", "Cyst"),
    "edema": ("79654002", "Edema"),
    "lesion": ("52988006", "Lesion"),
    "necrosis": ("6574001", "Necrosis"),
    "neoplasm": ("108369006", "Neoplasm"),
}

_SYNONYMS = {
    "brainstem": "brain stem",
    "caudate": "caudate nucleus",
    "lv": "left ventricle",
    "oesophagus": "esophagus",
    "rv": "right ventricle",
    "thyroid gland": "thyroid",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "urinary bladder": "bladder",
}
_PAIRED = {
    *("adrenal gland", "amygdala", "caudate nucleus", "clavicle", "eye", "femur", "hip joint"),
    *("hippocampus", "humerus", "kidney", "lung", "ovary", "parotid gland", "putamen", "rib"),
    *("scapula", "thalamus"),
}


@dataclass(frozen=True)
class SegmentClass:
    """A label class, as described in a DICOM segmentation.

    Parameters
    ----------
    name : str
        Name that viewers show.
    category : Code or None
        Category of the structure; derived from a common name if not given, else tissue.
    type : Code or None
        The structure itself; derived from a common name if not given, else tissue.
    side : Code or None
        Left or right of a paired structure.
    algorithm : {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"} or None
        How the labels were created; None for the default of
        :func:`~napari_sslseg.core.scans.labels.save_labels`.
    algorithm_name : str
        Name of the model or method; not used for manual labels.
    color : tuple of int or None
        Red, green and blue from 0 to 255 of the display colour.

    Examples
    --------
    >>> SegmentClass("left kidney").coded().type
    ('64033007', 'SCT', 'Kidney')
    """

    name: str
    category: Code | None = None
    type: Code | None = None
    side: Code | None = None
    algorithm: Algorithm | None = None
    algorithm_name: str = "napari-sslseg"
    color: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("A label class has an empty name; give it a name.")
        if self.color is not None and not all(0 <= value <= 255 for value in self.color):
            raise ConfigError(
                f"The colour {self.color} of the class {self.name} is invalid; give red, green and "
                "blue from 0 to 255."
            )

    def coded(self) -> "SegmentClass":
        """Return a copy with the codes derived from the name; given codes are kept."""
        if self.type is not None:
            return replace(self, category=self.category or STRUCTURE)
        category, kind, side = _known(self.name) or (TISSUE, TISSUE, None)
        return replace(self, category=self.category or category, type=kind, side=self.side or side)


def _known(name: str) -> tuple[Code, Code, Code | None] | None:
    """Look up category, type and side of a structure by its English name, in any word order."""
    words = re.findall(r"[a-z]+", name.lower())
    side = next((SIDES[word] for word in words if word in SIDES), None)
    for wanted in (words, [word for word in words if word not in SIDES]):
        plain = " ".join(wanted)
        plain = _SYNONYMS.get(plain, plain)
        for table, category in ((STRUCTURES, STRUCTURE), (ABNORMALITIES, ABNORMAL)):
            for key, (value, meaning) in table.items():
                if sorted(key.split()) == sorted(plain.split()):
                    return category, (value, "SCT", meaning), side if key in _PAIRED else None
    return None


def is_structure(name: str) -> bool:
    """Return whether a name is only that of a common structure, such as "kidney_left"."""
    return not any(character.isdigit() for character in name) and _known(name) is not None


def describe_classes(
    values: Iterable[int], classes: Mapping[int, str | SegmentClass] | None, algorithm: Algorithm
) -> dict[int, SegmentClass]:
    """Describe all label values, in ascending order.

    Parameters
    ----------
    values : iterable of int
        Label values that occur; 0 is background.
    classes : mapping of int to str or SegmentClass, optional
        Classes by label value. Classes that do not occur are described too, so that segment
        numbers are the same for all patients of a study.
    algorithm : {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}
        Algorithm type of classes without their own.
    """
    named = {int(value): item for value, item in (classes or {}).items() if int(value) != 0}
    wrong = [value for value in named if value < 0]
    if wrong:
        raise ConfigError(f"The class {wrong[0]} is negative; labels are whole numbers from 0.")
    found = {}
    for value in sorted({*named, *(int(value) for value in values)} - {0}):
        item = named.get(value, f"class {value}")
        item = (SegmentClass(item) if isinstance(item, str) else item).coded()
        found[value] = replace(item, algorithm=item.algorithm or algorithm)
    return found
