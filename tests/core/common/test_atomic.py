"""Files are written completely or not at all."""

import os
import stat
import subprocess
import sys

import pytest

from napari_sslseg.core.common.atomic import atomic_path, write_text
from napari_sslseg.core.common.errors import StorageError


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "report.json"
    write_text(path, "eins")
    write_text(path, "zwei – ü")
    assert path.read_text(encoding="utf-8") == "zwei – ü"
    assert os.listdir(path.parent) == ["report.json"]


@pytest.mark.parametrize("name", ["a.nii.gz", "b.safetensors", "sub.01.v2.nii.gz", "no_suffix"])
def test_temporary_name_keeps_suffixes_and_is_hidden(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffixes[-2:] == (tmp_path / name).suffixes[-2:]
        temporary.write_bytes(b"x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are of POSIX")
def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    plain, atomic = (stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("plain", "atomic"))
    assert atomic == plain


@pytest.mark.parametrize("name", ["SEG.MHA", "a.Nii", "b.Nii.Gz", "c.txt"])
def test_a_writer_that_uses_another_name_leaves_nothing(tmp_path, name):
    """Such as one that adds the suffix that it knows."""
    (tmp_path / name).write_text("old")

    def write():
        with atomic_path(tmp_path / name) as temporary:
            assert temporary.name == temporary.name.lower()
            (tmp_path / f"{temporary.name}.npz").write_text("new")

    with pytest.raises(StorageError, match=name):
        write()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_temporary_file_that_was_removed_is_an_error(tmp_path):
    def write():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.unlink()

    with pytest.raises(StorageError, match=r"a\.txt"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permission bits are of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440, 0o664])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    with atomic_path(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600  # Nobody else reads it meanwhile.
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_links_stay_if_they_are_followed(tmp_path):
    (tmp_path / "shared").mkdir()
    shared, link = tmp_path / "shared/a.txt", tmp_path / "b.txt"
    shared.write_text("old")
    shared.chmod(0o640)
    link.symlink_to("shared/a.txt")
    write_text(link, "new", follow_link=True)
    assert link.is_symlink()
    assert shared.read_text() == "new"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o640
    # The file of a disk that is not connected.
    shared.unlink()
    with pytest.raises(StorageError, match="missing"):
        write_text(link, "newer", follow_link=True)
    assert not list(shared.parent.iterdir())
    # In run folders, and where another kind of file would be changed, the link itself is replaced.
    shared.write_text("mine")
    write_text(link, "new")
    (tmp_path / "c.json").symlink_to(shared)
    write_text(tmp_path / "c.json", "new", follow_link=True)
    (tmp_path / "d.txt").symlink_to("/dev/null")
    write_text(tmp_path / "d.txt", "new", follow_link=True)
    assert shared.read_text() == "mine"
    for name in ("b.txt", "c.json", "d.txt"):
        assert not (tmp_path / name).is_symlink()


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(StorageError, match=r"a\.txt") as caught:
        write_text(tmp_path / "file" / "a.txt", "new")
    assert "space" not in str(caught.value)  # The disk is not full.
    assert (tmp_path / "file").read_text() == "old"


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(StorageError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the file size as Linux does")
def test_full_disk(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import resource, sys\n"
        "from napari_sslseg.core.common.atomic import write_text\n"
        "from napari_sslseg.core.common.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_text(sys.argv[1], 'x' * 100_000)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    assert str(path) in done.stdout
    assert "free some space" in done.stdout
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
