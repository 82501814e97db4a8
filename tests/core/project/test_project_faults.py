"""Projects after a kill, opened twice, on a full disk, damaged, or with hostile records."""

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fuzz_runs import places
from napari_sslseg.core.common.errors import ProjectError, SslsegError, StorageError
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.project.record import ProjectRecord
from paths import HELPERS
from read_only_folder import read_only_folder

ONE = os.environ | {"OMP_NUM_THREADS": "1"}


def make(folder, shape=(12, 10, 6), name="scan"):
    """Create a project with one scan and return it open."""
    folder.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder.parent / f"{name}.nii.gz")
    project = Project.create(folder)
    assert project.add_scans(folder.parent / f"{name}.nii.gz").added == (name,)
    return project


@pytest.fixture
def project(tmp_path):
    with make(tmp_path / "work" / "project") as project:
        project.save_labels("scan", np.ones(project.entry("scan").shape, np.uint8))
        project.mark_done("scan", [1, 2, 4])
        yield project


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_leaves_the_last_save_or_the_one_before(tmp_path):
    make(tmp_path / "project", (64, 64, 40)).close()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HELPERS / "project_trials.py", tmp_path / "project", "20"],
        capture_output=True, text=True, timeout=120, env=ONE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(trials) == 20
    for trial in trials:
        assert all(trial[key] for key in ("whole", "labels", "record", "sound", "tidy")), trial
    assert any(trial["left"] for trial in trials), "no process was killed while writing"


class TestLock:
    def test_a_second_process_is_refused_with_the_number_of_the_first(self, project):
        code = (
            "import sys\nfrom napari_sslseg.core.project.project import Project\n"
            "from napari_sslseg.core.common.errors import StorageError\n"
            "for way in (Project.open, Project.create):\n"
            "    try:\n        way(sys.argv[1])\n"
            "    except StorageError as error:\n        print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, project.folder], capture_output=True, text=True, check=True
        )
        expected = f"The project {project.folder} is already open in process {os.getpid()}; "
        lines = done.stdout.splitlines()
        assert len(lines) == 2
        assert all(line.startswith(expected) for line in lines)
        project.add_class("still ours")

    def test_a_project_is_opened_once_per_process(self, project):
        with pytest.raises(StorageError, match="already open in this process"):
            Project.open(project.folder)
        project.close()
        Project.open(project.folder).close()
        assert not (project.folder / "project.lock").exists()

    def test_the_lock_of_a_killed_process_is_ignored(self, project):
        project.close()
        code = (
            "import os, sys\nfrom napari_sslseg.core.project.project import Project\n"
            "project = Project.open(sys.argv[1])\nos.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", code, project.folder], check=False)
        assert (project.folder / "project.lock").exists()
        Project.open(project.folder).close()

    def test_a_change_by_another_program_is_not_overwritten(self, project):
        path = project.folder / "project.json"
        os.utime(path, (1, 1))
        project.add_class("a")  # Only the modification time changed.
        text = path.read_text().replace('"axial"', '"coronal"')
        path.write_text(text)
        for change in (
            lambda: project.add_class("b"),
            lambda: project.save_labels("scan", np.zeros(project.entry("scan").shape, np.uint8)),
            lambda: project.new_run_folder("pretrain"),
        ):
            with pytest.raises(ProjectError, match="changed by another program"):
                change()
        assert path.read_text() == text
        assert [item.name for item in project.classes] == ["class 1", "a"]

    def test_a_missing_project_folder_is_not_created_again(self, project):
        labels = np.zeros(project.entry("scan").shape, np.uint8)
        shutil.move(project.folder, project.folder.with_name("moved"))
        for change in (
            lambda: project.add_class("b"),
            lambda: project.save_labels("scan", labels),
            lambda: project.new_run_folder("pretrain"),
        ):
            with pytest.raises(ProjectError, match=r"project\.json is missing"):
                change()
        assert not project.folder.exists()


def test_only_temporary_files_of_a_killed_process_are_removed(project):
    project.close()
    name = ".napari-sslseg-0123456789abcdef"
    ours = [f"{name}.json", f"labels/{name}.nii.gz"]
    theirs = [".vscode-insiders", ".hidden", "labels/.hidden.nii.gz", ".project-abcdefgh.json"]
    for name in ours + theirs:
        (project.folder / name).write_text("")
    with Project.open(project.folder):
        assert not any((project.folder / name).exists() for name in ours)
        assert all((project.folder / name).exists() for name in theirs)


class TestDisk:
    @pytest.fixture
    def small_disk(self, tmp_path):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
        try:
            if subprocess.run(command, capture_output=True).returncode:
                pytest.skip("no disk can be mounted here")
        except FileNotFoundError:
            pytest.skip("no disk can be mounted here")
        yield folder
        subprocess.run(["umount", "-l", folder], check=True)

    def test_a_full_disk_does_not_damage_saved_files(self, small_disk):
        with make(small_disk / "project") as project:
            shape = project.entry("scan").shape
            rng = np.random.default_rng(1)
            project.save_labels("scan", rng.integers(0, 3, shape).astype(np.uint8))
            project.mark_done("scan", 1)
            before = {
                path: path.read_bytes() for path in project.folder.rglob("*.*") if path.is_file()
            }
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**12))
            for change in (
                lambda: project.save_labels("scan", np.full(shape, 2, np.uint8)),
                lambda: project.mark_done("scan", 2),
                lambda: project.add_class("x"),
                lambda: project.remove_class(2, erase=True),
            ):
                with pytest.raises(StorageError, match="No space left"):
                    change()
            assert all(path.read_bytes() == data for path, data in before.items())
            assert project.done("scan") == (1,)
            assert "x" not in project.class_names.values()
            filler.unlink()
            project.add_class("x")
            project.save_labels("scan", np.full(shape, 2, np.uint8))
        with Project.open(small_disk / "project") as again:
            assert again.done("scan") == (1,)
            assert (again.labels("scan").data == 2).all()

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no file-size limits")
    def test_a_file_size_limit_does_not_damage_saved_labels(self, tmp_path):
        """The same for machines where no small disk can be mounted."""
        import resource
        import signal

        with make(tmp_path / "project", (64, 64, 32)) as project:
            shape = project.entry("scan").shape
            project.save_labels("scan", np.ones(shape, np.uint8))
            before = project.labels_path("scan").read_bytes()
            noise = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limit[1]))
                with pytest.raises(StorageError, match="Could not write"):
                    project.save_labels("scan", noise)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
                signal.signal(signal.SIGXFSZ, ignored)
            assert project.labels_path("scan").read_bytes() == before

    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
    def test_a_read_only_folder_is_reported(self):
        # Not in the temporary folder of the tests, which other users cannot enter.
        with tempfile.TemporaryDirectory(dir="/tmp") as parent:
            Path(parent).chmod(0o755)
            project = make(Path(parent, "project"))
            before = (project.folder / "project.json").read_bytes()
            root = os.geteuid() == 0
            project.folder.chmod(0o555)
            try:
                if root:  # Root can write everywhere.
                    os.seteuid(65534)
                with pytest.raises(StorageError, match="Permission denied"):
                    project.add_class("x")
                project.close()
                with pytest.raises(StorageError, match=r"make this one writable"):
                    Project.create(Path(parent, "project", "inner"))
            finally:
                if root:
                    os.seteuid(0)
                project.folder.chmod(0o755)
            assert (project.folder / "project.json").read_bytes() == before


def scan(**changes):
    def change(record):
        record["scans"][0] |= changes

    return change


def top(**changes):
    return lambda record: record.update(changes)


def two_scans(**changes):
    def change(record):
        record["scans"].append(record["scans"][0] | changes)

    return change


ONE_CLASS = {"value": 1, "name": "x", "colour": "#000000"}
ACCEPTED = {"plane": "axial", "run": "finetune-001", "slices": "1, 3"}
HOSTILE = [
    (top(format=2), "newer version"),
    (top(format=10**14), "newer version"),
    (top(format=10**30), "too large"),
    (top(format=0), "format"),
    (top(format=True), "format"),
    (top(format="1"), "format"),
    (top(scans=3), "scans"),
    (top(scans=[[]]), "scans.0"),
    (top(plane="oblique"), "plane"),
    (top(unknown=1), "unknown"),
    (top(screen=[1]), "screen"),
    (top(screen={"x": [[]] * 2_600_000}), "more than 2,500,000 values"),
    (top(**{"\x1b[2J" + "x" * 9999: 1}), r"\\x1b"),
    (top(classes=[ONE_CLASS, ONE_CLASS]), "two classes"),
    (top(classes=[ONE_CLASS, ONE_CLASS | {"value": 2, "name": "X"}]), "two classes of the name"),
    (top(classes=[ONE_CLASS | {"value": 255}]), "classes.0.value"),
    (top(classes=[ONE_CLASS | {"colour": "red"}]), "colour"),
    (top(classes=[ONE_CLASS | {"name": "\x1b[2J"}]), "name"),
    (scan(name="../../../tmp/x"), "name of a file"),
    (scan(name="/etc/passwd"), "name of a file"),
    (scan(name="..\\x"), "name of a file"),
    (scan(name=".."), "name of a file"),
    (scan(name=""), "name of a file"),
    (scan(name="a\nb"), "name of a file"),
    (scan(files=["../x.dcm"]), "not in the folder"),
    (scan(files=["/etc/passwd"]), "not in the folder"),
    (scan(path=7), "path"),
    (scan(path=""), "path"),
    (scan(role="validation"), "role"),
    (scan(subject="\x1b[2J"), "subject"),
    (scan(shape=[6, 10]), "shape"),
    (scan(shape=[6, 10, 0]), "shape"),
    (scan(shape=[6, 10, 10**12]), "shape"),
    (scan(shape=[6.5, 10, 12]), "shape"),
    (scan(content="x"), "content"),
    (scan(done="0-999999"), r"scans\.0\.done"),
    (scan(done="0-99999, 0-99999"), r"scans\.0\.done"),
    (scan(done="0-99998, 99997"), r"scans\.0\.done"),
    (scan(done="5-3"), r"scans\.0\.done"),
    (scan(done="0-1, 2-3"), r"scans\.0\.done"),
    (scan(done="00-3"), r"scans\.0\.done"),
    (scan(done="3-3"), r"scans\.0\.done"),
    (scan(done="0-99999"), "not below 12"),
    (scan(done="1, 3-6"), "more slices of scan are done"),
    (scan(done="6"), "more slices of scan are done"),
    (scan(done="x"), "ranges of slices"),
    (scan(done=[1]), "done"),
    (scan(accepted=1), "accepted"),
    (scan(accepted=[1]), "accepted.0"),
    (scan(accepted=[ACCEPTED | {"plane": "oblique"}]), "plane"),
    (scan(accepted=[ACCEPTED | {"run": ""}]), "run"),
    (scan(accepted=[ACCEPTED | {"run": "\x1b[2J"}]), "control characters"),
    (scan(accepted=[ACCEPTED | {"slices": ""}]), "slices"),
    (scan(accepted=[ACCEPTED | {"slices": "3-2"}]), "slices"),
    (scan(accepted=[ACCEPTED | {"slices": "0-99999"}]), "only 6 axial slices"),
    (scan(accepted=[ACCEPTED | {"slices": "x"}]), "ranges of slices"),
    (scan(accepted=[ACCEPTED | {"more": 1}]), "more"),
    (scan(accepted=[ACCEPTED, ACCEPTED]), "two accepted slices"),
    (scan(accepted=[ACCEPTED | {"run": str(n)} for n in range(1001)]), "accepted"),
    (
        scan(
            shape=[99_999, 10, 12],
            accepted=[ACCEPTED | {"run": str(n), "slices": "0-99998"} for n in range(51)],
        ),
        "more than 5,000,000 slices are accepted",
    ),
    (two_scans(), "two scans of the name"),
    (two_scans(name="SCAN"), "two scans of the name"),
    (two_scans(name="other", role="test"), "both training"),
]


class TestRecords:
    def refused(self, folder, data, reason):
        """Check that a record is refused without changing any file; return the message."""
        path = folder / "project.json"
        path.write_bytes(data)
        before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
        start = time.process_time()
        with pytest.raises(ProjectError, match=reason) as caught:
            Project.open(folder)
        assert time.process_time() - start < 10
        assert path.read_bytes() == data
        assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        assert "\x1b" not in message
        assert len(message) < 700
        with pytest.raises(ProjectError, match="is a project already"):
            Project.create(folder)
        assert path.read_bytes() == data
        return message

    @pytest.mark.parametrize(("change", "reason"), HOSTILE)
    def test_a_hostile_record_is_refused_with_a_reason(self, project, change, reason):
        project.close()
        record = json.loads((project.folder / "project.json").read_text())
        change(record)
        message = self.refused(project.folder, json.dumps(record).encode(), reason)
        assert ("newer" in message) != ("is damaged" in message)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "JSON"),
            (b"hello", "JSON"),
            (b"\xff\xfe", "UTF-8"),
            (b"[1, 2]", "is damaged"),
            (b"null", "is damaged"),
            (b"[" * 100_000, "nested too deeply"),
            (b'{"format": NaN}', "NaN"),
            (b'{"format": 1e999}', "too large"),
            (b'{"format": 1, "format": 1}', "twice"),
            (b'"\\ud800"', "Unicode"),
            (b" " * (65 * 2**20), "larger than 64 MiB"),
        ],
    )
    def test_damaged_json_is_refused_with_a_reason(self, project, data, reason):
        project.close()
        assert "not changed" in self.refused(project.folder, data, reason)

    def test_a_truncated_record_is_refused(self, project):
        project.close()
        whole = (project.folder / "project.json").read_bytes()
        for length in range(0, len(whole) - 2, 37):
            self.refused(project.folder, whole[:length], "is damaged")

    def test_paths_that_are_not_scans_are_reported(self, project, tmp_path):
        project.close()
        path = project.folder / "project.json"
        record = json.loads(path.read_text())
        (tmp_path / "folder").mkdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "pipe.nii")
        for place in (
            "/etc/passwd", "/dev/zero", "/", "x" * 4000, "a\0b", "\n", str(tmp_path / "folder"),
            str(tmp_path / "pipe.nii"), "../../../../../../../../etc/passwd",
        ):  # fmt: skip
            record["scans"][0] |= {"path": place, "absolute": place}
            path.write_text(json.dumps(record))
            with Project.open(project.folder) as opened:
                problem = opened.problems()["scan"]
                assert "\n" not in problem
                assert len(problem) < 1000
                with pytest.raises(ProjectError):
                    opened.labelled_scans()

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
    def test_links_to_outside_the_project_are_not_followed(self, project, tmp_path):
        project.close()
        outside = tmp_path / "outside"
        outside.mkdir()
        precious = tmp_path / "precious.txt"
        precious.write_text("all my work")
        (project.folder / "project.lock").symlink_to(precious)
        with pytest.raises(StorageError, match=r"project\.lock"):
            Project.open(project.folder)
        assert precious.read_text() == "all my work"
        (project.folder / "project.lock").unlink()
        for name in ("labels", "runs"):
            inner = project.folder / name
            if inner.exists():
                inner.rename(tmp_path / name)
            inner.symlink_to(outside)
            with pytest.raises(ProjectError, match="outside the project"):
                Project.open(project.folder)
            inner.unlink()
            if (tmp_path / name).exists():
                (tmp_path / name).rename(inner)
        with Project.open(project.folder) as opened:
            opened.labels_path("scan").unlink()
            opened.labels_path("scan").symlink_to(precious)
            opened.save_labels("scan", np.ones(opened.entry("scan").shape, np.uint8))
        assert precious.read_text() == "all my work"

    def test_no_folder_and_no_file_outside_the_project_is_removed(self, project, tmp_path):
        project.close()
        outside = tmp_path / "outside"
        name = ".napari-sslseg-0123456789abcde"
        ours = [outside / f"{name}f.nii.gz", outside / f"{name}e" / "kept"]
        for path in ours:
            path.parent.mkdir(exist_ok=True)
            path.write_text("all my work")
        aside = project.folder / "labels" / "aside"
        aside.symlink_to(outside)
        with pytest.raises(ProjectError, match="aside is a link to outside"):
            Project.open(project.folder)
        assert [path.read_text() for path in ours] == ["all my work"] * 2
        aside.unlink()
        with Project.open(project.folder) as opened:
            aside.symlink_to(outside)
            with pytest.raises(ProjectError, match="outside the project"):
                opened.remove_scan("scan")
        assert len(list(outside.iterdir())) == 2
        aside.unlink()
        # Within the project only temporary files are removed.
        folder = project.folder / "labels" / ".napari-sslseg-abcd123400000000.nii.gz"
        folder.mkdir()
        (folder / "mine.nii.gz").write_text("all my work")
        left = project.folder / "labels" / ".napari-sslseg-abcd123400000001.nii.gz"
        left.write_text("half of it")
        Project.open(project.folder).close()
        assert (folder / "mine.nii.gz").exists()
        assert not left.exists()

    def test_a_remembered_value_of_another_type_is_replaced_by_the_default(self, project):
        project.remember("list", 5)
        project.remember("number", [1])
        assert project.recall("list", []) == []
        assert project.recall("list") == 5
        assert project.recall("number", [0]) == [1]

    def test_mutated_records_open_or_are_refused(self, project):
        project.remember("x", [1, {"y": None}])
        project.close()
        path = project.folder / "project.json"
        original = path.read_bytes()
        outcomes = []
        for index in range(400):
            data = mutated(original, np.random.default_rng(index))
            path.write_bytes(data)
            try:
                with Project.open(project.folder) as opened:
                    assert path.read_bytes() == data
                    opened.problems()
                    opened.runs()
                    with contextlib.suppress(SslsegError):
                        opened.labelled_scans()
                    opened.remember("again", index)
                parse_json(path.read_bytes())
                ProjectRecord.model_validate_json(path.read_bytes())
                outcomes.append("opened")
            except SslsegError as error:
                message = str(error)
                assert path.read_bytes() == data
                assert "\n" not in message
                assert "\x1b" not in message
                assert len(message) < 1000
                outcomes.append("refused")
        assert outcomes.count("opened") > 20
        assert outcomes.count("refused") > 200


NASTY = [
    None, True, -1, 0, 3, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "é",
    "../../etc/passwd", "/etc/passwd", "\x1b[2J\n", "\ud800", "a" * 100_000, [], {}, [[]] * 1000,
    "0-99999", "1, 2", [1, 2, 3], "train", "coronal", "#123456",
]  # fmt: skip


def mutated(data, rng):
    """Replace a value, delete or add a key, or damage the text."""
    kind = rng.choice(["nasty", "nasty", "nasty", "lose", "add", "cut", "bits"])
    if kind == "cut":
        return data[: rng.integers(0, len(data))]
    if kind == "bits":
        changed = np.frombuffer(data, np.uint8).copy()
        for _ in range(int(rng.integers(1, 4))):
            changed[rng.integers(0, len(data))] ^= np.uint8(1 << rng.integers(0, 8))
        return changed.tobytes()
    record = copy.deepcopy(json.loads(data))
    spots = [spot for spot in places(record) if spot]
    spot = spots[rng.integers(len(spots))]
    inner = record
    for key in spot[:-1]:
        inner = inner[key]
    if kind == "lose":
        del inner[spot[-1]]
    elif kind == "add" and isinstance(inner, dict):
        inner["\x1b[2Jnew"] = 1
    else:
        inner[spot[-1]] = NASTY[int(rng.integers(len(NASTY)))]
    return json.dumps(record).encode()


def test_a_null_in_a_record_is_a_default_or_refused(project):
    project.set_labelled_classes("scan", [1])
    project.note_accepted("scan", [1], "finetune-001")
    project.remember("a", 1)
    project.close()
    path = project.folder / "project.json"
    record = json.loads(path.read_text())
    for place in [place for place in places(record) if place]:
        changed = inner = copy.deepcopy(record)
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = None
        path.write_text(json.dumps(changed))
        with contextlib.suppress(ProjectError), Project.open(project.folder) as opened:
            assert opened.problems() == {}
            assert place[0] == "screen" or place[-1] in ("spacing", "labelled_classes")


def test_a_read_only_project_is_open_for_looking(project):
    project.close()
    with read_only_folder(project.folder) as folder:
        check_reading(folder)


def check_reading(read_only):
    before = {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}
    with Project.open(read_only) as project:
        assert project.read_only
        assert "reading only" in project.note
        assert project.problems() == {}
        assert project.labels("scan").data.any()
        assert project.done("scan") == (1, 2, 4)
        assert [item.name for item in project.scans()] == ["scan"]
        project.remember("scan", "scan")
        labels = project.labels("scan").data
        for change in (
            lambda: project.save_labels("scan", labels),
            lambda: project.add_class("liver"),
            lambda: project.mark_done("scan", [5]),
            lambda: project.remove_scan("scan"),
            lambda: project.new_run_folder("pretrain"),
        ):
            with pytest.raises(ProjectError, match="open for reading only"):
                change()
    assert {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()} == before
