"""Presets of several stages: interrupted, overwritten, run twice, or with damaged files."""

import json
import shutil

import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError, ConfigError, StorageError
from napari_sslseg.core.common.events import Message, Step, StopFlag
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.stages.multi_plan import StagePlan
from napari_sslseg.core.stages.multi_stage import StagedRun
from training_process import scan

SCANS = [scan(seed)[0] for seed in (1, 2, 3)]
STEPS = 3
PLAN = "preset.json"


pytestmark = pytest.mark.usefixtures("one_thread")


def preset(seed=0):
    return core.preset_named("umapathy-2022-contrastive").with_overrides(
        training={"steps": STEPS, "epochs": None, "batch_size": 4, "seed": seed},
        network=core.UmapathyNetwork(widths=(4, 8, 8, 8)),
        preprocessing={"size": (32, 32)},
    )


def begun(out, seed=0, scans=SCANS, **options):
    return core.iter_pretrain_preset(scans, preset(seed), out=out, device="cpu", **options)


def resumed(out, scans=SCANS, **options):
    return core.pretrain_preset(scans, out=out, resume=True, device="cpu", **options)


def plain(out, **options):
    settings = core.PretrainSettings(
        network=core.UmapathyNetwork(widths=(4, 8, 8, 8)),
        preprocessing=core.Preprocessing(size=(32, 32)),
        training=core.Training(steps=2, batch_size=4),
    )
    task = core.MaskedPixels()
    return core.pretrain(SCANS, task, settings=settings, out=out, device="cpu", **options)


def stopped(out, after, seed=0, **options):
    stop, steps = StopFlag(), 0
    for event in begun(out, seed, stop=stop, **options):
        steps += isinstance(event, Step)
        if steps == after:
            stop.set()


def ended(events, words):
    """Close a run at the message with these words, as a kill would."""
    for event in events:
        if isinstance(event, Message) and words in event.text:
            break
    events.close()


def texts(events):
    return " ".join(event.text for event in events if isinstance(event, Message))


def record(folder):
    return json.loads((folder / "run.json").read_text())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same(one, two):
    return all(
        (one / stage / "last.safetensors").read_bytes()
        == (two / stage / "last.safetensors").read_bytes()
        for stage in ("first-stage", ".")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs without interruption, by seed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    for seed in (0, 7):
        list(begun(folder / str(seed), seed))
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("after", [2, STEPS, STEPS + 2])
def test_it_resumes_in_its_current_stage(whole, out, after):
    stopped(out, after)
    assert (out / "run.json").is_file() is (after > STEPS)
    run = resumed(out)
    assert run.folder == out
    assert same(whole / "0", out)
    plan = json.loads((out / PLAN).read_text())["id"]
    assert [record(f)["plan"] for f in (out, out / "first-stage")] == [plan, plan]
    messages = texts(core.iter_pretrain_preset(SCANS, out=out, resume=True))
    assert messages.endswith("is finished already.")
    assert "Stage 1" not in messages


def test_it_resumes_between_stages(whole, out):
    ended(begun(out), "Stage 2 of 2")
    assert not (out / "run.json").exists()
    resumed(out)
    assert same(whole / "0", out)


class TestOverwriting:
    @pytest.mark.parametrize("older", ["preset", "plain"])
    def test_an_overwritten_run_does_not_come_back(self, whole, out, older):
        if older == "preset":
            shutil.copytree(whole / "0", out)
        else:
            plain(out)
        stopped(out, 2, seed=7, overwrite=True)
        assert not (out / "run.json").exists()
        assert not (out / "last.safetensors").exists()
        resumed(out)
        assert same(whole / "7", out)

    def test_an_overwritten_run_does_not_come_back_after_a_kill(self, whole, out, monkeypatch):
        shutil.copytree(whole / "0", out)

        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(StagedRun, "_remove_older", killed)
            with pytest.raises(KeyboardInterrupt):
                list(begun(out, 7, overwrite=True))
        assert (out / "run.json").is_file()
        resumed(out)
        assert same(whole / "7", out)

    def test_a_plain_run_removes_plan_and_stages(self, whole, out):
        shutil.copytree(whole / "0", out)
        (out / "first-stage" / "notes.txt").write_text("mine")
        plain(out, overwrite=True)
        assert not (out / PLAN).exists()
        assert [path.name for path in (out / "first-stage").iterdir()] == ["notes.txt"]
        assert "plan" not in record(out)
        messages = texts(core.iter_pretrain_preset(SCANS, out=out, resume=True))
        assert str(out) in messages
        assert "finished" in messages

    def test_a_link_in_place_of_a_stage_is_not_followed(self, whole, out, tmp_path):
        shutil.copytree(whole / "0", out)
        shutil.move(out / "first-stage", tmp_path / "elsewhere")
        (out / "first-stage").symlink_to(tmp_path / "elsewhere")
        before = contents(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="first-stage is a link"):
            plain(out, overwrite=True)
        assert contents(tmp_path / "elsewhere") == before

    def test_folders_of_the_user_named_like_stages_are_kept(self, out):
        first = plain(out / "first-stage")
        before = contents(first.folder)
        for overwrite in (False, True):
            with pytest.raises(StorageError, match=r"not empty \(first-stage\)"):
                list(begun(out, overwrite=overwrite))
            with pytest.raises(StorageError, match=r"not empty \(first-stage\)"):
                plain(out, overwrite=overwrite)
        shutil.copy(first.folder / "run.json", out)
        task = core.MaskedPixels()
        settings = core.PretrainSettings(training=core.Training(steps=1, batch_size=4))
        core.pretrain(
            SCANS, task, settings=settings, init=first, out=out, device="cpu", overwrite=True
        )
        assert contents(first.folder) == before

    def test_a_run_cannot_start_from_a_stage_that_it_replaces(self, whole, out):
        shutil.copytree(whole / "0", out)
        before = contents(out)
        first = out / "first-stage"
        with pytest.raises(ConfigError, match=r"would replace .*first-stage"):
            list(begun(out, 7, init=first, overwrite=True))
        with pytest.raises(ConfigError, match=r"would replace .*first-stage"):
            core.pretrain(SCANS, init=first, out=out, overwrite=True)
        with pytest.raises(ConfigError, match=r"would replace .*first-stage"):
            core.finetune([core.LabelledScan(*scan(1))], init=first, out=out, overwrite=True)
        assert contents(out) == before


def test_the_folder_is_locked_in_all_stages(whole, out):
    events = begun(out)
    for event in events:
        if isinstance(event, Step):
            break
    before = (out / PLAN).read_bytes()
    for other in (
        lambda: list(begun(out, 7)),
        lambda: list(begun(out, 7, overwrite=True)),
        lambda: plain(out),
        lambda: plain(out, overwrite=True),
        lambda: resumed(out),
    ):
        with pytest.raises(StorageError, match="is working in"):
            other()
    assert (out / PLAN).read_bytes() == before
    events.close()
    assert not list(out.rglob("run.lock"))
    # The lock is released, but the folder still contains a run.
    for other in (lambda: list(begun(out, 7)), lambda: plain(out)):
        with pytest.raises(StorageError, match="already contains a run"):
            other()
    resumed(out)
    assert same(whole / "0", out)


def test_a_finished_run_needs_no_first_stage(whole, out):
    shutil.copytree(whole / "0", out)
    shutil.rmtree(out / "first-stage")
    before = contents(out)
    messages = texts(core.iter_pretrain_preset([], out=out, resume=True))
    assert messages.endswith("is finished already.")
    assert contents(out) == before


def test_the_second_stage_resumes_without_the_first(whole, out):
    stopped(out, STEPS + 2)
    shutil.rmtree(out / "first-stage")
    resumed(out)
    one, two = (folder / "last.safetensors" for folder in (whole / "0", out))
    assert one.read_bytes() == two.read_bytes()
    assert not (out / "first-stage").exists()


def test_a_first_stage_that_changed_is_refused(out, whole):
    stopped(out, STEPS + 2)
    shutil.rmtree(out / "first-stage")
    shutil.copytree(whole / "7" / "first-stage", out / "first-stage")
    before = contents(out)
    with pytest.raises(CheckpointError, match="first-stage changed after"):
        resumed(out)
    assert contents(out) == before


@pytest.mark.parametrize(
    "words", [pytest.param("Stage 1 of 2", marks=pytest.mark.slow), "Stage 2 of 2"]
)
def test_threads_are_kept_in_all_stages(out, words):
    ended(begun(out, threads=2), words)
    torch.set_num_threads(1)
    resumed(out)
    assert [record(folder)["threads"] for folder in (out / "first-stage", out)] == [2, 2]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("words", ["Stage 1 of 2", "Stage 2 of 2"])
def test_added_scans_are_ignored_and_missing_ones_named(whole, out, words):
    ended(begun(out), words)
    with pytest.raises(CheckpointError, match=r"scan case2, .* is not among"):
        resumed(out, [SCANS[0], SCANS[2]])
    resumed(out, [scan(5)[0], *reversed(SCANS)])
    assert same(whole / "0", out)


def test_a_scan_that_changed_between_the_stages_is_refused(out):
    ended(begun(out), "Stage 2 of 2")
    first, *others = SCANS
    changed = Volume(first.data + 1, first.geometry, "MR", first.name, first.subject)
    with pytest.raises(CheckpointError, match="scan case1 was changed since"):
        resumed(out, [changed, *others])


class TestStart:
    @pytest.fixture
    def start(self, tmp_path):
        return plain(tmp_path / "start")

    def test_it_is_found_after_both_folders_were_moved(self, start, out, tmp_path):
        ended(begun(out, init=start), "Stage 1 of 2")
        moved = tmp_path / "elsewhere"
        moved.mkdir()
        for folder in (out, start.folder):
            shutil.move(folder, moved)
        run = resumed(moved / out.name)
        first = record(run.folder / "first-stage")
        assert first["init"] == "start"
        assert first["transfer"]["copied"]

    def test_a_missing_or_changed_start_is_named(self, start, out, tmp_path):
        ended(begun(out, init=start), "Stage 1 of 2")
        moved = tmp_path / "moved"
        shutil.move(start.folder, moved)
        with pytest.raises(CheckpointError, match=r"start.*--init"):
            resumed(out)
        plain(start.folder).weights.write_bytes(b"other")
        with pytest.raises(CheckpointError, match=r"weights of .* changed"):
            resumed(out)
        assert record(resumed(out, init=moved).folder / "first-stage")["init"] == "moved"


def changed(path, value):
    """Function that changes one value of the plan."""

    def change(plan):
        *places, last = path
        for place in places:
            plan = plan[place]
        plan[last] = value

    return change


DAMAGES = {
    "older": (changed(["format"], 1), "an older version"),
    "newer": (changed(["format"], 9), "a newer version"),
    "id": (changed(["id"], "../.."), "id: "),
    "threads": (changed(["threads"], 10**9), "threads: "),
    "no scans": (changed(["scans"], []), "scans: "),
    "unknown": (changed(["run"], "rm"), "run: "),
    "modality": (changed(["modality"], "US"), "modality: "),
    "no kind": (changed(["kind"], None), "kind and start"),
    "task": (changed(["preset", "stages", 1, "task"], "\x1b[2Jjigsaw"), r"\x1b"),
    "many stages": (
        lambda plan: plan["preset"].update(stages=plan["preset"]["stages"] * 20), "40 stages"
    ),
    "no stages": (changed(["preset", "stages"], []), "0 stages"),
    "steps": (changed(["preset", "stages", 0, "settings", "training", "steps"], 10**12), "steps"),
    "start": (
        lambda plan: plan.update(kind=None, start={"folder": "a\x00b", "weights": ""}),
        "start is not a name",
    ),
    "network": (
        changed(["preset", "network", "widths"], [4096, 4096, 4096, 4096, 4096]), "preset.network"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_an_invalid_plan_is_refused(whole, out, name):
    change, words = DAMAGES[name]
    out.mkdir()
    plan = json.loads((whole / "0" / PLAN).read_text())
    change(plan)
    (out / PLAN).write_text(json.dumps(plan))
    with pytest.raises(CheckpointError) as caught:
        resumed(out)
    text = str(caught.value)
    assert words in text
    assert text.isprintable()
    assert len(text) < 500
    assert [path.name for path in out.iterdir()] == [PLAN]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": NaN}', "[" * 9999, "\udcff"])
def test_a_damaged_plan_is_refused(out, text):
    out.mkdir()
    (out / PLAN).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match="is damaged"):
        resumed(out)


def test_the_plan_is_read_back(whole):
    text = (whole / "0" / PLAN).read_text()
    plan = StagePlan.model_validate(json.loads(text))
    assert plan.preset == preset(0)
    assert plan.scans == [volume.name for volume in SCANS]
    assert plan.model_dump_json(indent=1) == text
