"""Several trainings that store their slices or crops in the same folder."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from napari_sslseg.core.common.events import return_value
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.samples.crops import iter_crops
from napari_sslseg.core.samples.slices import SliceStore, iter_store
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes hold open files there")


def scans():
    return [make_patient(n, "MR", (8, 24, 24), (20.0, 15.0, 15.0))[0] for n in range(3)]


def builders(kind, cache):
    """Return two builds of the same store."""
    build, settings = (
        (iter_store, Preprocessing()) if kind == "slices" else (iter_crops, VolumePreprocessing())
    )
    return [build(scans(), settings, storage="disk", cache=cache) for _ in range(2)]


@pytest.mark.parametrize("kind", ["slices", "crops"])
def test_the_second_build_uses_the_store_of_the_first(tmp_path, kind):
    first, second = builders(kind, tmp_path)
    next(first)
    next(second)
    one = return_value(first)
    made = {path: path.stat().st_ino for path in one.folder.iterdir()}
    values = one.batch(np.arange(3)).clone()
    two = return_value(second)
    assert two.folder == one.folder
    assert {path: path.stat().st_ino for path in one.folder.iterdir()} == made
    assert (one.batch(np.arange(3)) == values).all()
    assert (two.batch(np.arange(3)) == values).all()
    assert list(tmp_path.iterdir()) == [one.folder]


BUILD = """
import sys
import numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_shared_cache import scans
from napari_sslseg.core.samples.slices import SliceStore, iter_store
from napari_sslseg.core.settings.preprocessing import Preprocessing
cache = Path(sys.argv[1])
found = scans()
if sys.argv[3] == "wait":
    steps = iter_store(found, Preprocessing(), storage="disk", cache=cache)
    next(steps)
    print("begun", flush=True)
    sys.stdin.read()
print("ready", flush=True)
sys.stdin.readline()
for number in range(4):
    place = cache / str(number)
    store = SliceStore.build(found, Preprocessing(), storage="disk", cache=place)
    assert abs(float(store.batch(np.array([0, 5])).mean())) < 10
"""


def start(cache, mode="build"):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, cache, Path(__file__).parent, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_processes_that_build_the_same_store_do_not_disturb_each_other(tmp_path):
    for number in range(2):  # Damaged stores are replaced by all at once.
        place = tmp_path / str(number)
        store = SliceStore.build(scans(), Preprocessing(), storage="disk", cache=place)
        (store.folder / "index.json").write_text("{")
    processes = [start(tmp_path) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)
    for place in tmp_path.iterdir():
        (folder,) = place.iterdir()
        assert folder.name == store.folder.name


@pytest.mark.slow
def test_what_a_killed_build_left_is_removed_and_nothing_else(tmp_path):
    killed, alive = start(tmp_path, "wait"), start(tmp_path, "wait")
    try:
        for process in (killed, alive):
            assert process.stdout.readline() == "begun\n"
        assert len(list(tmp_path.iterdir())) == 2
        (before,) = {path for path in tmp_path.iterdir() if is_held(path, killed)}
        killed.kill()
        killed.wait()
        others = [tmp_path / name for name in (".napari-sslseg-notes", ".cache-abcdefgh", "keep")]
        for path in others:
            path.mkdir()
            (path / "data").write_text("precious")
        SliceStore.build(scans(), Preprocessing(), storage="disk", cache=tmp_path)
        left = set(tmp_path.iterdir())
        assert before not in left
        assert len(left) == 2 + len(others)
        assert left.issuperset(others)
    finally:
        for process in (killed, alive):
            process.kill()
            process.communicate()


def is_held(folder, process):
    """Whether a process has a file of a folder open."""
    handles = Path(f"/proc/{process.pid}/fd")
    if not handles.is_dir():
        pytest.skip("only Linux lists the open files of a process")
    links = [os.readlink(path) for path in handles.iterdir() if path.is_symlink()]
    return any(Path(link).parent == folder for link in links)


def test_a_store_has_the_permissions_of_ordinary_files(tmp_path):
    tmp_path.chmod(0o2775)
    before = os.umask(0o007)
    try:
        store = SliceStore.build(scans(), Preprocessing(), storage="disk", cache=tmp_path / "c")
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.folder.stat().st_mode) & 0o777 == 0o770
    for path in store.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert path.stat().st_gid == tmp_path.stat().st_gid


OTHER_USER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_shared_cache import scans
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.settings.preprocessing import Preprocessing
os.setuid(65534)
try:
    store = SliceStore.build(scans(), Preprocessing(), storage="disk", cache=Path(sys.argv[1]))
    print(store.folder)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(getattr(os, "getuid", int)() != 0, reason="only root changes the user")
@pytest.mark.parametrize("shared", [True, False])
def test_another_user_reads_a_store_or_learns_at_once_why_not(shared):
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name)
        cache.chmod(0o777)
        store = SliceStore.build(scans(), Preprocessing(), storage="disk", cache=cache)
        if not shared:
            store.folder.chmod(0o700)
        done = subprocess.run(
            [sys.executable, "-c", OTHER_USER, cache, Path(__file__).parent],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert (done.stdout.strip() == str(store.folder)) == shared
    assert ("may not be read" in done.stdout) != shared
