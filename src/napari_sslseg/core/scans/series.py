"""A scan that is not loaded: its file or files, known by their headers."""

from dataclasses import dataclass, field
from pathlib import Path

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Series:
    """A volume in one file or several, known by the headers; its values are not read yet.

    Parameters
    ----------
    name : str
        Name of the file. For a DICOM series, a name that is valid as a file name, made of the
        patient's pseudonym, the modality, and the number and description of the series. It
        contains no name, number or birth date of a patient from the headers.
    subject : str
        The patient: guessed from the names of all files listed together, see
        :func:`~napari_sslseg.core.scans.matching.subjects.guess_subjects`, or the pseudonym of a
        DICOM patient.
    path : Path
        The file, or the folder that holds the files.
    files : tuple of Path
        All files of the volume.
    modality : str or None
        Modality in the header, such as "MR", "CT" or "PT"; None if the header has none.
    image : ImageFile or None
        The opened file or stack of files; None if there is a problem.
    problem : str or None
        Why it cannot be used as a volume, in one sentence.
    is_scan : bool
        False for objects that are not scans, such as localizers, screenshots and reports.
    frame : int
        Index of the volume in a file that holds several.
    subject_guess : str or None
        The subject as guessed from names; None if a header or the user names the patient. Only a
        ``subject`` that equals it is guessed again among more scans.
    subject_note : str
        Why the header does not clearly identify the patient, in a part of a sentence.
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
    subject_guess: str | None = None
    subject_note: str = ""

    @property
    def geometry(self) -> Geometry | None:
        """Grid of the volume; None if there is a problem."""
        return None if self.image is None else self.image.geometry

    @property
    def notes(self) -> tuple[str, ...]:
        """Changes that make the grid regular, and ambiguities of the header."""
        return () if self.image is None else self.image.notes

    def opened(self) -> ImageFile:
        """Return the opened file or stack of files.

        Raises
        ------
        VolumeError
            If the series has a ``problem``.
        """
        if self.image is None:
            raise VolumeError(self.problem or f"{self.path} holds no volume.")
        return self.image


Source = Path | Series
"""A scan that is not loaded: its path, or its series."""
