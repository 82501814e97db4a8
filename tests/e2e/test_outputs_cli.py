"""Where results go, and what the commands say before they read scans."""

import warnings

import pytest

from command_line import refused, run
from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError, ScanWarning, StorageError
from napari_sslseg.core.results.predict_files import iter_predict


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    core.write_dataset(folder, 2, "MR")
    return folder


@pytest.fixture(scope="module")
def trained(scans):
    """A run of one step, from scratch in another spelling."""
    done = run(
        "finetune", "--images", scans / "images", "--labels", scans / "labels", "--steps", 1,
        "--network", "tiny", "--init", "Scratch", "--out", scans / "run", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert core.Run.open(scans / "run").record["init"] == "scratch"
    return scans / "run"


COMMANDS = {
    "pretrain": ("pretrain", "missing"),
    "preset": ("pretrain", "missing", "--preset", "dominic-2023"),
    "finetune": ("finetune", "--images", "missing", "--labels", "missing"),
}


@pytest.mark.parametrize("name", ["x.nii.gz", "X.NRRD", "x.dcm", "report.png"])
@pytest.mark.parametrize("command", [*COMMANDS, "predict", "demo"])
def test_a_folder_with_the_name_of_a_file_is_refused(trained, scans, tmp_path, command, name):
    others = {"predict": ("predict", trained, scans / "images"), "demo": ("demo",)}
    words = (COMMANDS | others)[command]
    assert refused(run(*words, "--out", tmp_path / name), "folder", name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_may_have_any_name(trained, scans, tmp_path):
    (tmp_path / "study.nii.gz").mkdir()
    image = sorted((scans / "images").iterdir())[0]
    done = run("predict", trained, image, "--out", tmp_path / "study.nii.gz")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", list(COMMANDS))
def test_an_existing_output_is_refused_before_scans_are_read(trained, command):
    assert refused(run(*COMMANDS[command], "--out", trained), "already contains a run")


def test_python_refuses_an_existing_output_before_scans_are_read(trained, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no scan")
    pair = core.LabelledScan(broken, broken)
    for work in (
        lambda: core.pretrain(tmp_path, out=trained),
        lambda: core.finetune([pair], out=trained),
        lambda: core.pretrain_preset(tmp_path, "dominic-2023", out=trained),
    ):
        with pytest.raises(StorageError, match="already contains a run"):
            work()


def test_a_stopped_run_is_continued_with_resume(scans, tmp_path):
    stop = core.StopFlag()
    settings = core.PretrainSettings(network="tiny", training=core.Training(steps=5))
    for event in core.iter_pretrain(
        scans / "images", out=tmp_path / "run", settings=settings, stop=stop, device="cpu"
    ):
        if isinstance(event, core.Step):
            stop.set()
    words = "stopped at step 1 of 5; continue it with --resume"
    assert refused(run("pretrain", scans / "images", "--out", tmp_path / "run"), words)
    with pytest.raises(StorageError, match="resume=True"):
        core.pretrain(scans / "images", out=tmp_path / "run")


def test_an_existing_preview_is_refused_before_scans_are_read(tmp_path):
    (tmp_path / "preview.png").write_bytes(b"mine")
    assert refused(run("preview", "missing", "--out", tmp_path / "preview.png"), "already exists")


def test_a_misspelt_start_is_asked_about(scans, tmp_path):
    paths = "--images", scans / "images", "--labels", scans / "labels", "--out", tmp_path / "run"
    assert refused(run("finetune", *paths, "--init", "scrach"), "Did you mean scratch?")
    assert refused(run("pretrain", scans / "images", "--out", tmp_path / "run", "--init", "scrath"),
                   "Did you mean scratch?")  # fmt: skip
    with pytest.raises(CheckpointError, match="does not exist"):
        core.finetune([], init=tmp_path / "other", out=tmp_path / "run")


def test_labels_of_other_scans_are_left_out_for_one_scan(scans):
    image = sorted((scans / "images").iterdir())[0]
    with pytest.warns(ScanWarning, match="1 label file .* of other scans"):
        (pair,) = core.pair_scans(image, scans / "labels")
    assert pair.labels.name == image.name
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        assert len(core.pair_scans(scans / "images", scans / "labels")) == 2


def test_predict_says_what_it_understood(trained, scans, tmp_path):
    done = run("predict", trained, scans / "images", "--out", tmp_path / "labels")
    assert done.returncode == 0, done.stderr
    assert "2 scans to segment" in done.stderr
    assert "1 liver" in done.stderr
    assert done.stderr.count("Modality: MR, guessed from the values of") == 1
    events = iter_predict(trained, [scans / "images"], out=tmp_path / "again", modality="MR")
    texts = [event.text for event in events if isinstance(event, core.Message)]
    assert "Modality: MR, as given." in texts


def test_class_names_of_other_values_are_refused(trained, scans, tmp_path):
    (tmp_path / "names.json").write_text('{"70": "Kopf"}')
    words = "predict", trained, scans / "images", "--out", tmp_path / "p", "--class-names"
    assert refused(run(*words, tmp_path / "names.json"), "70", "1 liver")
    assert not (tmp_path / "p").exists()
    (tmp_path / "names.json").write_text('{"70": "Kopf", "1": "Leber"}')
    done = run(*words, tmp_path / "names.json")
    assert done.returncode == 0, done.stderr
    assert "70 Kopf" in done.stderr
    assert "leave out 2, 3" in done.stderr


MISSING = {
    "class names of predictions": "predict {run} {scans}/images --out {new} --class-names {lost}",
    "class names of an export": "export {label} --like {scans}/images --out {new}.nii.gz "
    "--class-names {lost}",
    "a label file": "export {lost} --like {scans}/images --out {new}.nii.gz",
    "a folder of labels": "export {scans}/labels --like {scans}/images --out {new}.nii.gz",
    "scans of an export": "export {label} --like {lost} --out {new}.nii.gz",
    "a class map": "finetune {pairs} --out {new} --class-map {lost}",
    "annotated slices": "finetune {pairs} --out {new} --annotated {lost}",
    "labelled classes": "finetune {pairs} --out {new} --labelled-classes {lost}",
    "patients": "finetune {pairs} --out {new} --patients {lost}",
    "unlabelled scans": "finetune {pairs} --out {new} --unlabelled {lost}",
    "a start": "finetune {pairs} --out {new} --init {lost}",
    "masks": "pretrain {scans}/images --out {new} --task siamese --masks {lost}",
    "a class map without masks": "pretrain {scans}/images --out {new} --class-map {lost}",
    "slices of an organ": "pretrain {scans}/images --out {new} --task polycl --selection organ "
    "--organ-slices {lost}",
    "a class map of a preview": "preview {scans}/images --out {new}.png --class-map {lost}",
    "images of an evaluation": "evaluate {scans}/labels {scans}/labels --images {lost}",
    "patients of an evaluation": "evaluate {scans}/labels {scans}/labels --patients {lost}",
    "patients of a list": "series {scans}/images --patients {lost}",
    "data of a demonstration": "demo --out {new} --data {lost}",
    "a folder of runs": "runs {lost}",
}


@pytest.mark.parametrize("line", MISSING.values(), ids=MISSING)
def test_a_file_that_does_not_exist_is_never_ignored(trained, scans, tmp_path, line):
    label = sorted((scans / "labels").iterdir())[0]
    words = line.format(
        run=trained,
        scans=scans,
        label=label,
        new=tmp_path / "new",
        lost=tmp_path / "lost.csv",
        pairs=f"--images {scans}/images --labels {scans}/labels --steps 1",
    )
    done = run(*words.split())
    assert refused(done)
    assert "--series" not in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("new")]


def test_only_some_scans_may_be_labelled(scans, tmp_path):
    label = sorted((scans / "labels").iterdir())[0]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / label.name).write_bytes(label.read_bytes())
    words = ("finetune", "--images", scans / "images", "--labels", tmp_path / "few", "--out",
             tmp_path / "run", "--steps", 1, "--network", "tiny", "--device", "cpu")  # fmt: skip
    assert refused(run(*words), "--some-labelled")
    done = run(*words, "--some-labelled")
    assert done.returncode == 0, done.stderr
    assert "Labels of 1 scan" in done.stderr


def test_a_run_and_scans_that_are_swapped_are_noticed(trained, scans, tmp_path):
    out = "--out", tmp_path / "p"
    assert refused(run("predict", scans / "images", trained, *out), "run first")
    assert refused(run("predict", trained.parent, scans / "images", *out), str(trained))


def test_swapped_folders_of_other_numbers_of_files_are_noticed(scans, tmp_path):
    few = sorted((scans / "labels").iterdir())[0]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / few.name).write_bytes(few.read_bytes())
    words = "finetune", "--images", tmp_path / "few", "--labels", scans / "images", "--out"
    assert refused(run(*words, tmp_path / "run"), "swapped?")
