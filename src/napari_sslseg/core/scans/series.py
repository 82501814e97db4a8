"""TODO."""

from dataclasses import dataclass, field
from pathlib import Path

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Series:
    """One volume that lies in a file or in many, known by its headers; no value is read yet.

    Parameters
    ----------
    name : str
        Readable name, good as a file name: that of the file, or of a DICOM series made of the
        patient's pseudonym, the modality, and the number and description of the series. It
        holds no name, number or birth date of a patient that the user's own files do not.
    subject : str
        The patient: guessed from the name of the file, or the pseudonym of a DICOM patient.
    path : Path
        The file, or the folder that holds the files.
    files : tuple of Path
        All files that it is read from.
    modality : str or None
        From the header where that tells it, such as "MR", "CT" or "PT".
    image : ImageFile or None
        The opened file or stack of files; None if there is a problem.
    problem : str or None
        Why it cannot be used as a volume, in one sentence.
    is_scan : bool
        False for what is no scan by its nature: a localizer, a screenshot, a report.
    frame : int
        Which volume of a file that holds several.
    """

    name: str
    subject: str
    path: Path
    files: tuple[Path, ...]
    modality: str | None = None
    image: ImageFile | None = field(default=None, repr=False)
    problem: str | None = None
    is_scan: bool = True
    frame: int = 0

    @property
    def geometry(self) -> Geometry | None:
        """Its grid; None if there is a problem."""
        return None if self.image is None else self.image.geometry

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to make a regular grid of it, and what its header leaves open."""
        return () if self.image is None else self.image.notes

    def opened(self) -> ImageFile:
        """The opened file or stack of files.

        Raises
        ------
        VolumeError
            The problem, if there is one.
        """
        if self.image is None:
            raise VolumeError(self.problem or f"{self.path} holds no volume.")
        return self.image


Source = Path | Series
"""A scan that is not loaded."""
