"""Public scans, downloaded once and only when asked for."""

import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import StorageError

HIPPOCAMPUS_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
HIPPOCAMPUS_MD5 = "9d24dba78a72977dbd1d2e110310f31b"
HIPPOCAMPUS_CLASSES = {1: "anterior", 2: "posterior"}

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
        Where downloads are kept; the user's cache folder if not given.
    url, md5 : str
        The archive and its checksum; a mirror, say.

    Returns
    -------
    Path
        Folder with ``images/``, ``labels/`` and ``classes.json``, as
        :func:`~napari_sslseg.core.demo.demo.iter_demo` takes it.

    Raises
    ------
    StorageError
        If the archive cannot be had, or is not what it should be.

    Notes
    -----
    Simpson et al. 2019, arXiv:1902.09063; licence CC-BY-SA 4.0.
    """
    import pooch  # type: ignore[import-untyped]

    cache = Path(folder) if folder is not None else Path(pooch.os_cache("napari-sslseg"))
    ready = cache / "hippocampus"
    if ready.is_dir():  # put there whole
        return ready
    archive = _download(url, md5, cache)
    try:
        # Beside its place, to be renamed when it is complete.
        with tempfile.TemporaryDirectory(prefix=".hippocampus-", dir=cache) as temporary:
            work = Path(temporary, "hippocampus")
            _unpack(archive, work)
            write_text(work / "classes.json", json.dumps(HIPPOCAMPUS_CLASSES, indent=1))
            write_text(work / "LICENSE.txt", _ATTRIBUTION)
            work.rename(ready)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise StorageError(
            f"{archive} could not be unpacked into {ready} ({error}); free some space, or delete "
            "the archive, then try again."
        ) from error
    return ready


def _download(url: str, md5: str, cache: Path) -> Path:
    """Archive in the cache, checked; one that the user put there by hand is as good."""
    import pooch

    name = url.rsplit("/", 1)[-1]
    by_hand = f"download {url} with a browser, put it into {cache} as {name}, then try again"
    try:
        # `requests`, which pooch downloads with, makes OSErrors of all that a network can do.
        found = pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=cache)
    except ValueError as error:
        raise StorageError(
            f"What came from {url} is not the file that was asked for (its checksum differs), as "
            f"happens behind a login page or when a download is cut short; {by_hand}."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{url} could not be downloaded to {cache} ({_short(error)}); check the connection "
            f"and the free space, or {by_hand}."
        ) from error
    return Path(found)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the scans that have labels, and these, into ``images/`` and ``labels/``."""
    counts = {"images": 0, "labels": 0}
    parts = {"imagesTr": "images", "labelsTr": "labels"}
    for name in counts:
        (folder / name).mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            part, name = os.path.split(member.name)
            kind = parts.get(os.path.basename(part))
            # Only the last two parts of a name count, so that nothing lands anywhere else.
            if kind is None or not member.isfile() or not name.endswith(".nii.gz"):
                continue
            source = tar.extractfile(member)
            if source is None or name.startswith("."):  # ._name is what macOS adds
                continue
            with source, (folder / kind / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            counts[kind] += 1
    if not all(counts.values()):
        raise tarfile.TarError("it holds no folders imagesTr and labelsTr with scans")


def _short(error: OSError) -> str:
    """First line of the reason, without the objects that network errors print."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).splitlines()[0]
