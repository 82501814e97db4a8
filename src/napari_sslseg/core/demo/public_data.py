"""Public scans, downloaded once and only on request."""

import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from napari_sslseg.core.common.atomic import is_abandoned_folder, marked_folder, write_text
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.sync import sync_file, sync_folder

HIPPOCAMPUS_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
HIPPOCAMPUS_MD5 = "9d24dba78a72977dbd1d2e110310f31b"
HIPPOCAMPUS_CLASSES = {1: "anterior", 2: "posterior"}

WORK = ".hippocampus-"
"""Begin of the name of the folder in which the archive is unpacked."""

_ATTRIBUTION = """\
Hippocampus MR, task 4 of the Medical Segmentation Decathlon.

A. L. Simpson et al., A large annotated medical image dataset for the development and evaluation of
segmentation algorithms, 2019, arXiv:1902.09063. Licence: CC-BY-SA 4.0. The folders imagesTr and
labelsTr are named images and labels here; no file in them is changed.
"""


def hippocampus(
    folder: str | Path | None = None,
    *,
    url: str = HIPPOCAMPUS_URL,
    md5: str = HIPPOCAMPUS_MD5,
) -> Path:
    """Hippocampus MR of the Medical Segmentation Decathlon: 260 scans with labels, 27 MB.

    Parameters
    ----------
    folder : path-like, optional
        Folder for downloads; the user's cache folder if not given.
    url, md5 : str
        Address of the archive, such as that of a mirror, and its checksum.

    Returns
    -------
    Path
        Folder with ``images/``, ``labels/`` and ``classes.json``, as
        :func:`~napari_sslseg.core.demo.demo.iter_demo` takes it.

    Raises
    ------
    StorageError
        If the archive cannot be downloaded or unpacked, or its checksum is wrong.

    Notes
    -----
    Simpson et al. 2019, arXiv:1902.09063; licence CC-BY-SA 4.0.
    """
    import pooch  # type: ignore[import-untyped]

    cache = Path(folder) if folder is not None else Path(pooch.os_cache("napari-sslseg"))
    ready = cache / "hippocampus"
    if ready.is_dir():  # renamed to this when complete
        return ready
    archive = _download(url, md5, cache)
    try:
        # Unpacked next to its place, and renamed when complete.
        _remove_leftovers(cache)
        with (
            tempfile.TemporaryDirectory(prefix=WORK, dir=cache) as temporary,
            marked_folder(Path(temporary)),
        ):
            work = Path(temporary, "hippocampus")
            _unpack(archive, work)
            write_text(work / "classes.json", json.dumps(HIPPOCAMPUS_CLASSES, indent=1))
            write_text(work / "LICENSE.txt", _ATTRIBUTION)
            for file in work.rglob("*.*"):
                sync_file(file)
            work.rename(ready)
            sync_folder(cache)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise StorageError(
            f"{archive} could not be unpacked into {ready} ({error}); free some space, or delete "
            "the archive, then try again."
        ) from error
    return ready


def _remove_leftovers(cache: Path) -> None:
    """Remove what a killed process has unpacked; only folders with the marker of this program."""
    for folder in cache.glob(f"{WORK}*"):
        if is_abandoned_folder(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _download(url: str, md5: str, cache: Path) -> Path:
    """Download the archive unless it is in the cache, and check it; return its path.

    The user may also put it there by hand.
    """
    import pooch

    name = url.rsplit("/", 1)[-1]
    by_hand = f"download {url} with a browser, put it into {cache} as {name}, then try again"
    try:
        # `requests`, used by pooch, raises OSErrors for all network problems.
        found = pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=cache)
    except ValueError as error:
        raise StorageError(
            f"The download from {url} has another checksum than the archive, for example because "
            f"of a login page or an incomplete download; {by_hand}."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{url} could not be downloaded to {cache} ({_short(error)}); check the connection "
            f"and the free space, or {by_hand}."
        ) from error
    return Path(found)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the training scans and their labels into ``images/`` and ``labels/``."""
    counts = {"images": 0, "labels": 0}
    parts = {"imagesTr": "images", "labelsTr": "labels"}
    for name in counts:
        (folder / name).mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            part, name = os.path.split(member.name)
            kind = parts.get(os.path.basename(part))
            # Only the last two parts of a name are used, so no file is written elsewhere.
            if kind is None or not member.isfile() or not name.endswith(".nii.gz"):
                continue
            source = tar.extractfile(member)
            if source is None or name.startswith("."):  # ._name is added by macOS
                continue
            with source, (folder / kind / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            counts[kind] += 1
    if not all(counts.values()):
        raise tarfile.TarError("it contains no folders imagesTr and labelsTr with scans")


def _short(error: OSError) -> str:
    """First line of the innermost error, without the objects that network errors print."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).splitlines()[0]
