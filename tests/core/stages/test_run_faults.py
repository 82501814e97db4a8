"""Runs that are killed, run twice, short of disk space, or damaged, in separate processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError, ConfigError, StorageError
from napari_sslseg.core.common.events import Done, Message, Step, StopFlag
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.weights.import_weights import import_weights
from napari_sslseg.core.scans.slices.ranges import format_ranges, parse_ranges
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.stages.resume import recorded_start
from napari_sslseg.core.training.gradients import Gradients
from napari_sslseg.core.training.loop import Loop
from paths import HELPERS
from training_process import SEEDS, events, scan, training

KINDS = ("pretrain", "finetune")
ONE = os.environ | {"OMP_NUM_THREADS": "1"}


pytestmark = pytest.mark.usefixtures("one_thread")


def stopped(kind, out, after=9, **options):
    """Events of a run that is stopped."""
    stop, seen = StopFlag(), []
    for event in events(kind, out, stop=stop, **options):
        seen.append(event)
        if isinstance(event, Step) and event.step == after:
            stop.set()
    return seen


def interrupted(out, lines, within, save_after):
    """Interrupt a run after its third step, that many lines of code after a function begins."""
    left, begun = [lines], []

    def count(frame, event, argument):
        if frame.f_code is within.__code__:
            begun.append(True)
        if event == "line" and begun and left:
            left[0] -= 1
            if left[0] < 0:
                left.clear()
                raise KeyboardInterrupt
        return count if left else None

    def train():
        for event in events("pretrain", out, 10000, save_after=save_after):
            if isinstance(event, Step) and event.step == 3:
                sys.settrace(count)

    before = sys.gettrace()
    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        sys.settrace(before)


def texts(seen):
    return " ".join(event.text for event in seen if isinstance(event, Message))


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """A kind, and the folder of an uninterrupted run of this kind."""
    out = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    list(events(request.param, out))
    return request.param, out


def same(one, two):
    return all(
        (one / name).read_bytes() == (two / name).read_bytes()
        for name in ("last.safetensors", "best.safetensors", "metrics.csv")
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked here")
@pytest.mark.parametrize(
    ("kind", "trials"),
    [
        ("finetune", 1),
        pytest.param("pretrain", 20, marks=pytest.mark.slow),
        pytest.param("finetune", 20, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, kind, trials):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HELPERS / "kill_trials.py", kind, str(trials), tmp_path],
        capture_output=True, text=True, timeout=290, env=ONE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == trials
    for trial in found:
        assert all(trial["same"].values()), trial
        assert not trial["left"], trial
    assert any(trial["killed"] and trial["states"] for trial in found), found


class TestResuming:
    def test_it_resumes_with_its_recorded_settings(self, whole, tmp_path):
        kind, first = whole
        out = tmp_path / "run"
        stopped(kind, out)
        record = json.loads((out / "run.json").read_text())
        assert record["status"] == "stopped"
        seen = list(events(kind, out, resume=True))
        assert "after step 9" in texts(seen)
        assert next(event.step for event in seen if isinstance(event, Step)) == 10
        assert same(first, out)
        record = json.loads((out / "run.json").read_text())
        assert record["status"] == "finished"
        assert len(record["resumed"]) == 1
        assert not (out / "states").exists()
        history = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        assert [e["status"] for e in history if e["event"] == "End"] == ["stopped", "finished"]

    def test_a_run_that_is_interrupted_in_a_step_says_what_is_saved(self, tmp_path):
        """At any line, as by a second Ctrl-C; the first state is not saved before a while."""
        places = (
            (3, Gradients.__call__, 3600, "interrupted"),
            (300, Gradients.__call__, 3600, "interrupted"),
            (3, Loop.save, 0.01, "stopped"),
        )
        for number, (lines, within, save_after, status) in enumerate(places):
            out = tmp_path / f"run{number}"
            interrupted(out, lines, within, save_after)
            record = json.loads((out / "run.json").read_text())
            history = (out / "events.jsonl").read_text().splitlines()
            last = json.loads((out / "last.json").read_text())
            states = sorted((out / "states").glob("*")) if (out / "states").is_dir() else []
            saved = int(states[-1].stem) if states else 0
            assert (record["status"] == "stopped") == (saved == last["step"] > 0)
            assert record["status"] == status
            assert json.loads(history[-1])["status"] == record["status"]
            seen = []
            resumed = events("pretrain", out, resume=True)
            for event in resumed:
                seen.append(event)
                if isinstance(event, Step):
                    break
            resumed.close()
            assert seen[-1].step == saved + 1
            assert (f"after step {saved}" if saved else "begins at step 1") in texts(seen)

    def test_it_finds_its_slices_on_disk(self, whole, tmp_path):
        kind, first = whole
        out, cache = tmp_path / "run", tmp_path / "cache"
        stopped(kind, out, cache=cache)
        list(events(kind, out, resume=True, cache=cache))
        assert same(first, out)
        assert len(list(cache.iterdir())) == 1
        one, two = (json.loads((f / "run.json").read_text())["data"] for f in (first, out))
        assert one == two

    def test_a_finished_run_is_returned(self, whole):
        kind, out = whole
        before = (out / "run.json").read_bytes()
        seen = [e for e in events(kind, out, resume=True) if not isinstance(e, core.Progress)]
        message, done = seen
        assert "finished already" in message.text
        assert isinstance(done, Done)
        assert not done.stopped
        assert done.result.folder == out
        assert (out / "run.json").read_bytes() == before
        assert not (out / "run.lock").exists()

    def test_it_is_repeated_from_its_record_and_the_scans(self, whole, tmp_path):
        kind, first = whole
        record = json.loads((first / "run.json").read_text())
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").write_text(json.dumps(record))
        list(events(kind, tmp_path / "run", resume=True))
        assert same(first, tmp_path / "run")

    def test_its_record_lists_scans_and_machine(self, whole):
        kind, out = whole
        record = json.loads((out / "run.json").read_text())
        assert [entry["name"] for entry in record["data"]] == [f"case{seed}" for seed in SEEDS]
        assert len({entry["content"] for entry in record["data"]}) == len(SEEDS)
        used = [entry["training"] or entry["validation"] for entry in record["data"]]
        assert used == ["0-5"] * len(SEEDS)
        assert all(bool(entry["labels"]) == (kind == "finetune") for entry in record["data"])
        assert record["device_name"]
        assert record["threads"] == 1
        assert set(record["source"] or {"commit": "", "changed": ""}) == {"commit", "changed"}

    def test_scans_in_another_order_and_more_of_them_change_nothing(self, whole, tmp_path):
        kind, first = whole
        out = tmp_path / "run"
        stopped(kind, out)
        list(events(kind, out, resume=True, seeds=(9, *reversed(SEEDS))))
        assert same(first, out)

    def test_settings_are_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="leave out settings"):
            list(
                core.iter_finetune([], out=tmp_path, resume=True, settings=core.FinetuneSettings())
            )

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_missing_run_is_refused(self, tmp_path, kind):
        with pytest.raises(CheckpointError, match="There is no run"):
            list(events(kind, tmp_path / "none", resume=True))
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_missing_scan_is_named(self, tmp_path, kind):
        stopped(kind, tmp_path)
        with pytest.raises(CheckpointError, match=r"case3, .* is not among"):
            list(events(kind, tmp_path, resume=True, seeds=(1, 2, 4, 5)))

    def test_a_changed_scan_is_named(self, tmp_path):
        stopped("finetune", tmp_path)
        for part, words in ((0, "The scan case2 was changed"), (1, "labels of case2 were changed")):
            labelled = [list(scan(seed)) for seed in SEEDS]
            changed = labelled[1][part]
            data = changed.data.copy()
            data[data == 7 if part else data > 300] = 0
            labelled[1][part] = Volume(
                data, changed.geometry, changed.modality, changed.subject, changed.name
            )
            pairs = [core.LabelledScan(*pair) for pair in labelled]
            with pytest.raises(CheckpointError, match=words):
                list(core.iter_finetune(pairs, out=tmp_path, resume=True, device="cpu"))

    @pytest.mark.parametrize("how", ["damaged", "missing"])
    def test_without_the_newest_state_the_one_before_is_used(self, whole, tmp_path, how):
        kind, first = whole
        stopped(kind, tmp_path / "run", after=12)
        older, newest = sorted((tmp_path / "run" / "states").iterdir())
        if how == "missing":
            newest.unlink()
        else:
            newest.write_bytes(newest.read_bytes()[:-9] + b"damaged!!")
        seen = list(events(kind, tmp_path / "run", resume=True))
        assert f"{newest.name} is {how}" in texts(seen)
        assert f"from step {int(older.stem)}" in texts(seen)
        assert same(first, tmp_path / "run")

    def test_a_record_without_scans_is_refused(self, tmp_path):
        stopped("pretrain", tmp_path)
        record = json.loads((tmp_path / "run.json").read_text())
        (tmp_path / "run.json").write_text(json.dumps(record | {"data": [1]}))
        with pytest.raises(CheckpointError, match="does not list the scans"):
            list(events("pretrain", tmp_path, resume=True))

    def test_annotated_slices_beyond_the_scan_take_no_memory(self, tmp_path):
        stopped("finetune", tmp_path, 1)
        record = json.loads((tmp_path / "run.json").read_text())
        record["data"][0]["annotated"] = "0-300000000000"
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match="annotated slices of"):
            list(events("finetune", tmp_path, resume=True))

    def test_the_start_is_found_and_checked(self, whole, tmp_path):
        kind, first = whole
        init = tmp_path / "init"
        list(events("pretrain", init, 3))
        settings = core.FinetuneSettings(training=core.Training(steps=3, batch_size=4))
        labelled = [core.LabelledScan(*scan(seed)) for seed in SEEDS[:2]]
        made = core.finetune(labelled, init=init, out=tmp_path / "ft", settings=settings)
        record = json.loads((made.folder / "run.json").read_text())
        assert record["start"]["folder"] == "../init"
        again = tmp_path / "again"
        again.mkdir()
        (again / "run.json").write_text(json.dumps(record))
        core.finetune(labelled, out=again, resume=True)
        one, two = ((f / "last.safetensors").read_bytes() for f in (again, made.folder))
        assert one == two
        (again / "last.safetensors").unlink()
        (again / "last.json").unlink()
        with pytest.raises(CheckpointError, match="which cannot be opened"):
            core.finetune(labelled, out=again, init=tmp_path / "nowhere", resume=True)
        if kind == "pretrain":
            with pytest.raises(CheckpointError, match=r"weights of .* changed"):
                core.finetune(labelled, out=again, init=first, resume=True)


class TestLock:
    def test_a_second_process_is_refused(self, tmp_path):
        out = tmp_path / "run"
        command = [sys.executable, "-W", "ignore", HELPERS / "training_process.py", "pretrain", out]
        first = subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, text=True, env=ONE)
        try:
            line = next(line for line in first.stdout if line.startswith("Step"))
            assert line
            for words in (["100000"], ["resume"]):
                done = subprocess.run(
                    [*command, *words], capture_output=True, text=True, timeout=120, env=ONE
                )
                assert done.returncode == 2, done.stderr
                assert done.stderr.startswith(f"Another process ({first.pid}) is working in {out};")
                assert len(done.stderr.splitlines()) == 1
            assert first.poll() is None
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        # The lock ends with its process, although its file still exists.
        assert (out / "run.lock").exists()
        with run_lock(out):
            pass
        assert not (out / "run.lock").exists()

    def test_a_second_run_in_one_process_is_refused(self, tmp_path):
        with run_lock(tmp_path), pytest.raises(StorageError, match="Another process is working"):
            list(events("pretrain", tmp_path))

    def test_an_empty_folder_is_removed(self, tmp_path):
        with run_lock(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()
        assert not (tmp_path / "run").exists()

    def test_a_file_in_place_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "run").write_text("")
        with pytest.raises(StorageError, match="is a file"), run_lock(tmp_path / "run"):
            pass


@pytest.fixture
def small_disk(tmp_path):
    """A small disk that can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", folder]
    try:
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
    except FileNotFoundError:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class TestDisk:
    def run_until_it_fails(self, out, spoil):
        """Error message of a run in which ``spoil`` is called at the tenth step."""

        def run():
            for event in events("pretrain", out):
                if isinstance(event, Step) and event.step == 10:
                    spoil()

        with pytest.raises(StorageError) as caught:
            run()
        return str(caught.value)

    def check(self, out, message, whole_run):
        assert message.startswith("Could not write")
        assert "last checkpoint" in message
        assert "--resume" in message
        list(events("pretrain", out, resume=True))
        assert same(whole_run, out)
        assert json.loads((out / "run.json").read_text())["status"] == "finished"

    def test_a_full_disk_keeps_the_last_state(self, small_disk, tmp_path):
        list(events("pretrain", tmp_path / "whole"))
        out, filler = small_disk / "run", small_disk / "filler"

        def fill():
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**16))

        message = self.run_until_it_fails(out, fill)
        assert "No space left" in message
        filler.unlink()
        self.check(out, message, tmp_path / "whole")

    @pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permissions")
    def test_a_folder_made_read_only_keeps_the_last_state(self, tmp_path):
        list(events("pretrain", tmp_path / "whole"))
        # Outside the folder of the tests, which other users cannot enter.
        with tempfile.TemporaryDirectory(dir="/tmp") as parent:
            out = Path(parent, "run")
            Path(parent).chmod(0o755)
            root = os.geteuid() == 0

            def spoil():
                for folder in (out, out / "states"):
                    folder.chmod(0o555)
                if root:  # Root can write everywhere.
                    os.seteuid(65534)

            try:
                message = self.run_until_it_fails(out, spoil)
            finally:
                if root:
                    os.seteuid(0)
                for folder in (out, out / "states"):
                    folder.chmod(0o755)
            assert "Permission denied" in message
            self.check(out, message, tmp_path / "whole")

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="there are no file-size limits")
    def test_a_limit_of_file_sizes_keeps_the_last_state(self, tmp_path):
        """Without mounting a disk: the limit affects the states, but not the log."""
        import resource

        list(events("pretrain", tmp_path / "whole"))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))

        try:
            message = self.run_until_it_fails(tmp_path / "run", limit)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        self.check(tmp_path / "run", message, tmp_path / "whole")


def test_a_nan_loss_names_the_slices(tmp_path, monkeypatch):
    from napari_sslseg.core.pretext.restoration.patch_task import ContextRestorationTask

    good, calls = ContextRestorationTask.loss, []

    def bad(self, model, images, parameters):
        calls.append(1)
        loss = good(self, model, images, parameters)
        return loss * float("nan") if model.training and len(calls) > 15 else loss

    monkeypatch.setattr(ContextRestorationTask, "loss", bad)
    seen = []
    with pytest.raises(core.SslsegError) as caught:
        seen.extend(events("pretrain", tmp_path / "run"))
    last = [event.step for event in seen if isinstance(event, Step)][-1]
    text = str(caught.value)
    assert f"became nan (gradient nan) at step {last + 1}" in text
    # Resuming would lead to the same error, so the message does not suggest it.
    assert "start again with a lower learning rate" in text
    assert "--resume" not in text
    assert " of case" in text
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["problem"] == text
    monkeypatch.undo()
    list(events("pretrain", tmp_path / "run", resume=True))
    list(events("pretrain", tmp_path / "whole"))
    assert same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("at", [6, 24])
def test_a_nan_gradient_does_not_reach_the_weights(tmp_path, monkeypatch, at):
    """As with the infinite slope of a root at 0: the loss itself is finite."""
    from napari_sslseg.core.pretext.restoration.patch_task import ContextRestorationTask

    good, calls = ContextRestorationTask.loss, []

    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    def bad(self, model, images, parameters):
        loss = good(self, model, images, parameters)
        if not torch.is_grad_enabled() or len(images) < 4:
            return loss
        calls.append(1)
        return Spoiled.apply(loss) if len(calls) == at + 1 else loss

    monkeypatch.setattr(ContextRestorationTask, "loss", bad)
    with pytest.raises(core.SslsegError, match=rf"gradient nan\) at step {at};"):
        list(events("pretrain", tmp_path))
    for path in [tmp_path / "last.safetensors", *(tmp_path / "states").glob("*.safetensors")]:
        tensors = load_file(path)
        assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_scans_of_the_same_name_are_distinguished_by_content(tmp_path):
    scans = [replace(scan(seed)[0], name="T1") for seed in SEEDS]
    settings = core.PretrainSettings(
        network=core.Network.preset("tiny"), training=training(12), validation_share=0
    )
    options = {"out": tmp_path, "device": "cpu"}
    stop = StopFlag()
    for event in core.iter_pretrain(scans, settings=settings, stop=stop, **options):
        if isinstance(event, Step) and event.step == 4:
            stop.set()
    run = core.pretrain(scans[::-1], resume=True, **options)
    assert run.record["status"] == "finished"


def test_other_versions_processes_and_devices_are_reported(tmp_path):
    stopped("pretrain", tmp_path)
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    record["versions"]["torch"] = "1.0"
    record["device"] = "cuda:0"
    path.write_text(json.dumps(record))
    seen = texts(events("pretrain", tmp_path, resume=True))
    assert f"with torch 1.0, and now with {torch.__version__}" in seen
    assert "on cuda:0, and now on cpu" in seen
    record = json.loads(path.read_text())
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"] == "cpu"


def test_ctrl_c_while_a_state_is_read_changes_nothing(tmp_path, monkeypatch):
    from napari_sslseg.core.training.sampler import BatchSequence

    stopped("pretrain", tmp_path)
    files = [tmp_path / "last.json", tmp_path / "last.safetensors", tmp_path / "metrics.csv"]
    files += sorted((tmp_path / "states").iterdir())
    before = [path.read_bytes() for path in files]

    def interrupted(self, drawn):
        raise KeyboardInterrupt

    monkeypatch.setattr(BatchSequence, "skip_to", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(events("pretrain", tmp_path, resume=True))
    assert [path.read_bytes() for path in files] == before
    assert len(list((tmp_path / "states").iterdir())) == len(files) - 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_while_closing_a_run_is_raised(tmp_path, monkeypatch, kind):
    from napari_sslseg.core.common.errors import StorageError
    from napari_sslseg.core.training import loop

    seen = events(kind, tmp_path)
    next(event for event in seen if isinstance(event, Step) and event.step == 4)

    def full(*arguments):
        raise StorageError("The disk is full.")

    monkeypatch.setattr(loop, "write_state", full)
    with pytest.raises(StorageError, match="disk is full"):
        seen.close()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 5, 7, 8), "0-2, 5, 7-8")]
)
def test_ranges_are_parsed_back(numbers, text):
    assert format_ranges(numbers) == text
    assert parse_ranges(text, 9) == numbers


@pytest.mark.parametrize(
    "text",
    [
        "0-300000000000",
        "9",
        "0-9",
        "5-3",
        "3, 3",
        "0-5, 2-7",
        "x",
        "-1",
        "1-",
        "1,2",
        "\u0663",
        "7" * 5000,
    ],
)
def test_invalid_slice_ranges_are_refused(text):
    with pytest.raises(ValueError, match="range"):
        parse_ranges(text, 9)


@pytest.mark.parametrize("folder", [r"\\server\share\run", "//server/share/run", r"\/server\x"])
def test_the_start_is_not_opened_on_another_machine(tmp_path, monkeypatch, folder):
    record = {"init": "run", "start": {"folder": folder, "weights": "0"}}
    monkeypatch.setattr(Run, "open", None)  # It must not be called.
    with pytest.raises(CheckpointError, match=r"on another machine.*--init"):
        recorded_start(Run(tmp_path, record), None)


def test_an_imported_run_cannot_be_resumed(tmp_path):
    weights = make_network(Network.preset("tiny"), 1, 2).state_dict()
    torch.save(weights, tmp_path / "a.pt")
    import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"was imported.*--init"):
        list(events("pretrain", tmp_path / "run", resume=True))
