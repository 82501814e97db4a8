"""Unknown voxels, sparse slices and partly labelled classes on the command line."""

import json

import nibabel as nib
import numpy as np
import pytest

from command_line import refused, run

AFFINE = np.diag([1.0, 1, 4, 1])
SHAPE = (32, 32, 8)
TRAINING = ("--steps", 1, "--network", "tiny", "--device", "cpu", "--threads", 1)


def write(folder, name, data):
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), folder / f"{name}.nii.gz")


@pytest.fixture
def make(tmp_path):
    """Write three scans, with labels as a function of their number and of boxes of two classes."""

    def written(change):
        rng = np.random.default_rng(0)
        for number in range(3):
            labels = np.zeros(SHAPE, np.uint8)
            labels[4:12, 4:12, 1:7], labels[18:26, 8:20, 2:6] = 1, 2
            scan = rng.normal(100, 10, SHAPE) + 50 * labels
            write(tmp_path / "images", f"p{number}", scan.astype(np.float32))
            write(tmp_path / "labels", f"p{number}", change(number, labels))
        return "--images", tmp_path / "images", "--labels", tmp_path / "labels"

    return written


def finetune(folders, out, *options):
    return run("finetune", *folders, "--out", out, *TRAINING, *options)


def record(out):
    return json.loads((out / "run.json").read_text())


def with_255(number, labels):
    labels[:, :6] = 255
    return labels


def test_the_meaning_of_255_is_asked_for(make, tmp_path):
    folders = make(with_255)
    assert refused(finetune(folders, tmp_path / "a"), "255", "--ignore-value 255", "--classes")
    assert finetune(folders, tmp_path / "b", "--ignore-value", 255).returncode == 0
    assert record(tmp_path / "b")["classes"] == [1, 2]
    assert all(entry["ignore"] == 255 for entry in record(tmp_path / "b")["data"])
    assert finetune(folders, tmp_path / "c", "--classes", "1,2,255").returncode == 0
    assert record(tmp_path / "c")["classes"] == [1, 2, 255]


def test_sparse_slices_are_said_once_and_can_be_confirmed(make, tmp_path):
    def every_third(number, labels):
        labels[..., np.arange(8) % 3 != 2] = 0
        return labels

    folders = make(every_third)
    done = finetune(folders, tmp_path / "a")
    assert "--annotated labelled" in done.stderr
    for word, annotated in (("labelled", "2, 5"), ("all", "all")):
        done = finetune(folders, tmp_path / word, "--annotated", word)
        assert "single slices" not in done.stderr
        assert {entry["annotated"] for entry in record(tmp_path / word)["data"]} == {annotated}
    assert refused(finetune(folders, tmp_path / "b", "--annotated", "some"), "some", "not exist")


def test_structures_on_adjacent_slices_are_not_doubted(make, tmp_path):
    done = finetune(make(lambda number, labels: labels), tmp_path / "a")
    for word in ("--annotated", "--labelled-classes", "--ignore-value"):
        assert word not in done.stderr


def only_first(number, labels):
    labels[labels == 2] = 0 if number else 2
    return labels


@pytest.mark.parametrize("form", ["table", "json"])
def test_classes_of_some_scans_are_said_and_can_be_listed(make, tmp_path, form):
    folders = make(only_first)
    done = finetune(folders, tmp_path / "a")
    assert "class 2 in 1 of 3" in done.stderr
    assert "--labelled-classes" in done.stderr
    listed = tmp_path / ("listed.csv" if form == "table" else "listed.json")
    listed.write_text(
        "\ufeffscan;classes\np1;1\np2;1\n" if form == "table" else '{"p1": [1], "p2": [1]}'
    )
    done = finetune(folders, tmp_path / "b", "--labelled-classes", listed)
    assert "--labelled-classes" not in done.stderr
    entries = record(tmp_path / "b")["data"]
    assert [entry.get("labelled_classes") for entry in entries] == [None, [1], [1]]
    listed.write_text("scan,classes\np0,1\n" if form == "table" else '{"p0": [1]}')
    assert refused(finetune(folders, tmp_path / "c", "--labelled-classes", listed), "2", "p0")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"p0": []}'),
        ("a.json", '{"p0": 1}'),
        ("a.json", "[1]"),
        ("a.json", '{"zebra": [1]}'),
        ("a.csv", "scan\np0\n"),
        ("a.csv", "scan,classes\np0,1\np0,2\n"),
        ("a.csv", "scan,classes\np0,\n"),
        ("a.csv", "scan,classes\np0,liver\n"),
        ("a.csv", "scan,classes\np0,1,2\n"),
        ("a.csv", "scan,classes\np1,1\np1.nii.gz,1\n"),
    ],
)
def test_a_malformed_list_of_classes_is_refused(make, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    done = finetune(make(only_first), tmp_path / "a", "--labelled-classes", tmp_path / name)
    assert refused(done)


def test_a_value_that_fills_the_scan_is_doubted(make, tmp_path):
    def filled(number, labels):
        labels[:, :, :5] = 3
        return labels

    folders = make(filled)
    assert "--ignore-value 3" in finetune(folders, tmp_path / "a").stderr
    finetune(folders, tmp_path / "b", "--ignore-value", 3)
    assert record(tmp_path / "b")["classes"] == [1, 2]
    assert record(tmp_path / "b")["data"][0]["annotated"] == "0-2"  # From the top.


@pytest.mark.parametrize(
    "table",
    [
        'scan,classes\np1.nii.gz,"1, 2"\np2.nii.gz,1\n',
        "scan,classes\np1,Left_Kidney;right kidney\np2,left kidney\n",
        "scan,classes\np1,1 2\np2,LEFT KIDNEY\n",
    ],
)
def test_a_list_of_classes_may_name_files_and_classes_with_blanks(make, tmp_path, table):
    folders = make(only_first)
    names = {"1": "left kidney", "2": "right kidney"}
    (tmp_path / "labels" / "classes.json").write_text(json.dumps(names))
    (tmp_path / "list.csv").write_text(table)
    done = finetune(folders, tmp_path / "a", "--labelled-classes", tmp_path / "list.csv")
    assert done.returncode == 0, done.stderr
    entries = record(tmp_path / "a")["data"]
    assert [entry.get("labelled_classes") for entry in entries] == [None, [1, 2], [1]]


def test_annotated_slices_may_be_listed_by_file(make, tmp_path):
    (tmp_path / "slices.json").write_text('{"p1.nii.gz": [2, 3]}')
    folders = make(only_first)
    done = finetune(folders, tmp_path / "a", "--annotated", tmp_path / "slices.json")
    assert done.returncode == 0, done.stderr
    assert [entry["annotated"] for entry in record(tmp_path / "a")["data"]] == ["2-3"]


def test_an_ignore_value_that_does_not_occur_is_said(make, tmp_path):
    done = finetune(make(only_first), tmp_path / "a", "--ignore-value", 9)
    assert "check --ignore-value" in done.stderr
    folders = make(with_255)
    assert refused(finetune(folders, tmp_path / "b", "--ignore-value", 254), "--ignore-value 255")


def test_strokes_without_background_are_said(make, tmp_path):
    folders = make(lambda number, labels: labels)
    unknown = ("--ignore-value", 0, "--background-value", 9)
    assert "--background-value" in finetune(folders, tmp_path / "a", *unknown).stderr


def scribbles(number, labels):
    strokes = np.zeros_like(labels)
    strokes[::5] = labels[::5]
    strokes[:, ::9][labels[:, ::9] == 0] = 7
    return strokes


def test_unknown_slices_are_not_taken_for_empty_ones(make, tmp_path):
    """Also for a network of volumes, whose samples contain them."""

    def between(number, labels):
        labels[..., np.arange(8) % 3 != 2] = 255
        return labels

    folders = make(between)
    for name, network in (("slices", "tiny"), ("volumes", "dynunet3d")):
        done = finetune(folders, tmp_path / name, "--ignore-value", 255, "--network", network)
        assert done.returncode == 0, done.stderr
        assert "single slices" not in done.stderr
    assert "75.0% of the voxels" in done.stderr


def test_scribbles_need_a_value_of_the_background(make, tmp_path):
    folders = make(scribbles)
    asked = ("--ignore-value", 0)
    assert refused(finetune(folders, tmp_path / "a", *asked), "--background-value")
    done = finetune(folders, tmp_path / "b", *asked, "--background-value", 7)
    assert done.returncode == 0, done.stderr
    assert "unknown" in done.stderr
    assert record(tmp_path / "b")["classes"] == [1, 2]
    # A resumed run needs none of the options again.
    assert run("finetune", *folders, "--out", tmp_path / "b", "--resume").returncode == 0


def test_evaluate_leaves_out_what_is_unknown(make, tmp_path):
    make(lambda number, labels: labels)
    (tmp_path / "labels").rename(tmp_path / "predicted")
    make(lambda number, labels: with_255(number, only_first(number, labels)))
    folders = tmp_path / "predicted", tmp_path / "labels"
    assert refused(run("evaluate", *folders), "--ignore-value 255")
    asked = ("--ignore-value", 255, "--json")
    found = json.loads(run("evaluate", *folders, *asked).stdout)
    assert found["classes"]["1"] == {"dice": 1, "hd95_mm": 0, "n": 3, "hd95_undefined": 0}
    assert found["classes"]["2"]["dice"] == pytest.approx(1 / 3)
    (tmp_path / "listed.csv").write_text("scan,classes\np1,1\np2,1\n")
    asked = ("--ignore-value", 255, "--labelled-classes", tmp_path / "listed.csv", "--json")
    found = json.loads(run("evaluate", *folders, *asked).stdout)
    assert (found["classes"]["2"]["dice"], found["classes"]["2"]["n"]) == (1, 1)


@pytest.mark.parametrize(
    ("case", "options", "code", "words"),
    [
        ("every4", (), 0, ("--annotated labelled", "2 of 14 in p0")),
        ("every4", ("--annotated", "labelled"), 0, ("9 annotated of 56",)),
        ("ignore", (), 2, ("--ignore-value 255",)),
        ("ignore", ("--ignore-value", 255), 0, ("12 annotated of 56",)),
        ("ignoremax", (), 0, ("--ignore-value 3",)),
        ("ignoremax", ("--ignore-value", 3), 0, ("12 annotated of 56",)),
        ("partial", (), 0, ("class 2 in 2 of 4", "--labelled-classes")),
    ],
)
def test_files_of_the_field(data_dir, tmp_path, case, options, code, words):
    folder = data_dir / "field_cases/09-ignore-and-sparse" / case
    if not folder.is_dir():
        pytest.skip(f"no files in {folder}")
    folders = "--images", folder / "images", "--labels", folder / "labels"
    done = finetune(folders, tmp_path / "run", *options)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
