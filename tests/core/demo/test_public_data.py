"""Download of a public data set from a local server."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from napari_sslseg.core.common.atomic import marked_folder
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.demo.public_data import HIPPOCAMPUS_CLASSES, WORK, hippocampus
from napari_sslseg.core.scans.classes.class_list import read_class_names
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.matching.pair_scans import pair_scans

ARCHIVE = "Task04_Hippocampus.tar"


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_):
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path):
    """A folder on a local server, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    Quiet.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}/{ARCHIVE}"
        http.shutdown()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 2, "MR")
    return folder


@pytest.fixture
def archive(server, phantoms):
    """Phantoms in an archive like that of the Decathlon, with files of macOS and hostile paths."""
    path = server[0] / ARCHIVE
    with tarfile.open(path, "w") as tar:
        for kind, name in (("images", "imagesTr"), ("labels", "labelsTr")):
            for file in sorted((phantoms / kind).iterdir()):
                tar.add(file, f"Task04_Hippocampus/{name}/{file.name}")
                add(tar, f"Task04_Hippocampus/{name}/._{file.name}", b"Mac OS X")
        add(tar, "Task04_Hippocampus/imagesTs/other.nii.gz", b"no labels")
        add(tar, "../../imagesTr/../escaped.nii.gz", b"outside")
        add(tar, "/imagesTr/rooted.txt", b"outside")
        link = tarfile.TarInfo("Task04_Hippocampus/imagesTr/link.nii.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_downloads_once_into_a_folder_for_the_demo(server, archive, phantoms, tmp_path):
    cache = tmp_path / "cache"
    folder = hippocampus(cache, url=server[1], md5=md5(archive))
    pairs = pair_scans(folder / "images", folder / "labels")
    assert len(pairs) == 2
    for name in ("images", "labels"):
        mine = sorted((phantoms / name).iterdir())
        assert [f.name for f in sorted((folder / name).iterdir())] == [f.name for f in mine]
        assert [f.read_bytes() for f in sorted((folder / name).iterdir())] == [
            f.read_bytes() for f in mine
        ]
    assert load_labels(sorted((folder / "labels").iterdir())[0]).data.any()
    assert read_class_names(folder / "classes.json") == HIPPOCAMPUS_CLASSES
    assert "CC-BY-SA 4.0" in (folder / "LICENSE.txt").read_text()
    assert not list(tmp_path.rglob("escaped*")) + list(tmp_path.rglob("link*"))

    archive.unlink()
    assert hippocampus(cache, url=server[1], md5="of no account") == folder
    assert len(Quiet.asked) == 1


def test_corrupted_content_is_refused_and_nothing_is_left(server, archive, tmp_path):
    good = md5(archive)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    cache = tmp_path / "cache"
    with pytest.raises(StorageError, match=r"checksum.*cache") as error:
        hippocampus(cache, url=server[1], md5=good)
    assert str(error.value).count("\n") == 0
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_right_checksum_of_a_wrong_archive_is_refused(server, archive, tmp_path, keep):
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * keep * 0.9)])
    with pytest.raises(StorageError, match="could not be unpacked"):
        hippocampus(tmp_path / "cache", url=server[1], md5=md5(archive))
    assert not (tmp_path / "cache" / "hippocampus").exists()


def test_an_archive_of_something_else_is_refused(server, tmp_path):
    path = server[0] / ARCHIVE
    with tarfile.open(path, "w") as tar:
        add(tar, "readme.txt", b"nothing here")
    with pytest.raises(StorageError, match="no folders imagesTr"):
        hippocampus(tmp_path / "cache", url=server[1], md5=md5(path))


def test_without_a_connection_the_message_names_the_folder_for_the_file(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # Port 9 (discard) of this machine has no server.
    url = f"http://127.0.0.1:9/{ARCHIVE}"
    with pytest.raises(StorageError) as error:
        hippocampus(tmp_path / "cache", url=url, md5="0" * 32)
    said = str(error.value)
    assert url in said
    assert f"put it into {tmp_path / 'cache'} as {ARCHIVE}" in said
    assert "refused" in said
    assert len(said.splitlines()) == 1


def test_a_missing_file_on_the_server_is_reported_in_one_line(server, tmp_path):
    with pytest.raises(StorageError, match=r"could not be downloaded .*404"):
        hippocampus(tmp_path / "cache", url=server[1], md5="0" * 32)


def test_an_archive_in_the_folder_is_used_without_a_connection(archive, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / ARCHIVE).write_bytes(archive.read_bytes())
    folder = hippocampus(cache, url=f"http://127.0.0.1:9/{ARCHIVE}", md5=md5(archive))
    assert len(list((folder / "images").iterdir())) == 2


KILLED = """
import os, sys
from pathlib import Path
from napari_sslseg.core.demo import public_data

def killed(archive, folder):
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "p0.nii.gz").write_bytes(b"half")
    os._exit(9)

public_data._unpack = killed
public_data.hippocampus(sys.argv[1], url=sys.argv[2], md5=sys.argv[3])
"""


def test_what_a_killed_download_left_is_removed(server, archive, tmp_path):
    cache = tmp_path / "cache"
    known = [str(cache), server[1], md5(archive)]
    assert subprocess.run([sys.executable, "-c", KILLED, *known], check=False).returncode == 9
    (left,) = cache.glob(f"{WORK}*")
    assert (left / "hippocampus" / "images" / "p0.nii.gz").is_file()
    mine = cache / f"{WORK}mine"
    mine.mkdir()
    (mine / "scan.nii.gz").write_bytes(b"of somebody else")
    with tempfile.TemporaryDirectory(prefix=WORK, dir=cache) as busy, marked_folder(Path(busy)):
        hippocampus(cache, url=server[1], md5=md5(archive))
        assert Path(busy).is_dir()
    assert list(cache.glob(f"{WORK}*")) == [mine]
    assert (mine / "scan.nii.gz").is_file()
