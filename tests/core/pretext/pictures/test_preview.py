"""Previews of one scan and of several, before and after training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_sslseg import core
from napari_sslseg.cli.app import app
from napari_sslseg.core.common.errors import ConfigError, DataError, ScanWarning
from napari_sslseg.core.pretext.pictures.figure import preview_figure
from napari_sslseg.core.pretext.pictures.preview import preview
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import prediction_placement
from napari_sslseg.core.samples.preprocess import prepare
from napari_sslseg.core.samples.preview_slices import PreviewSlices, middle_samples
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.settings.networks import Dense3dNetwork
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.pretext.registry import make_task

SHAPE = (10, 64, 64)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scans():
    return [core.make_patient(seed, shape=SHAPE, spacing=(20, 5.6, 5.6))[0] for seed in range(4)]


@pytest.fixture(scope="module")
def tags(scans):
    return {scan.name: (0, 1, 2) for scan in scans}


def trained(scans, task, folder, **settings):
    return core.pretrain(
        scans,
        task,
        out=folder,
        settings=core.PretrainSettings(
            network=core.Network.preset("tiny"),
            training=core.Training(steps=2, batch_size=4),
            validation_share=0,
            **settings,
        ),
        device="cpu",
    )


# --- slices -----------------------------------------------------------------------------------


def test_slices_equal_those_of_a_store(scans):
    settings = default_preprocessing("MR")
    larger = core.make_patient(9, shape=(8, 80, 64))[0]
    store = core.SliceStore.build([*scans[:2], larger], settings)
    few = PreviewSlices([*scans[:2], larger], settings)
    assert len(few) == len(store) == 28
    assert few.size == store.size == (80, 64)
    assert few.channels == store.channels
    # A preview of few slices has no hashes, which would require reading whole scans.
    assert few.scans == tuple(replace(scan, content="") for scan in store.scans)
    assert np.array_equal(few.scan_index, store.scan_index)
    wanted = np.array([25, 3, 12, 3])
    torch.testing.assert_close(few.batch(wanted), store.batch(wanted))


def test_a_preview_crops_large_slices_as_the_training_does(scans):
    settings = default_preprocessing("MR").model_copy(update={"spacing": "keep", "size": (48, 80)})
    with pytest.warns(ScanWarning, match="only their middle"):
        shown = preview(scans[0], task="mae", preprocessing=settings)
    with pytest.warns(ScanWarning):
        store = core.SliceStore.build(scans[:1], settings)
    assert np.array_equal(shown.original, store.batch(middle_samples(store, 3)).numpy())
    assert PreviewSlices(scans[:1], settings, whole=True).size == (64, 80)


def test_a_preview_names_the_scan_the_slice_and_the_orientation(scans):
    shown = preview(scans[:2], task="mae", slices=2)
    store = PreviewSlices(scans[:2], default_preprocessing("MR"))
    numbers = middle_samples(store, 2) - [0, store.scans[1].start]
    for scan, number, text in zip(scans, numbers, shown.sources, strict=False):
        assert scan.name in text
        assert f"axial slice {number + 1} of 10" in text
    figure = preview_figure(shown)
    drawn = " ".join(axis.get_xlabel() for axis in figure.axes) + figure.get_supxlabel()
    assert shown.sources[0] in drawn.replace("\n", " ")
    assert "patient's right is at the left" in drawn.replace("\n", " ")


def test_slices_are_spread_over_the_middle_of_the_scans(scans):
    one = PreviewSlices(scans[:1], default_preprocessing("MR"))
    assert middle_samples(one, 3).tolist() == [3, 4, 6]
    several = PreviewSlices(scans, default_preprocessing("MR"))
    assert several.scan_index[middle_samples(several, 6)].tolist() == [0, 0, 1, 1, 2, 3]
    assert several.scan_index[middle_samples(several, 3)].tolist() == [0, 1, 2]


# --- one scan, several scans ------------------------------------------------------------------


def test_a_list_of_one_scan_equals_the_scan_alone(scans):
    shown = preview(scans[0], task="mae", seed=3)
    store = PreviewSlices(scans[:1], default_preprocessing("MR"))
    settings = default_preprocessing("MR")
    place = prediction_placement(scans[0].geometry, settings)
    whole = prepare(Normalizer(scans[0], settings), place)
    assert np.array_equal(shown.original, whole[middle_samples(store, 3)])
    task = core.MaskedPatches(patch_size=8).build(store.size, 3)
    draw = task.sample(3, torch.Generator().manual_seed(3))
    expected = task.apply(torch.from_numpy(shown.original), draw)
    assert np.array_equal(shown.corrupted, expected.numpy())


def test_several_scans_show_slices_of_each(scans):
    shown = preview(scans[:3], task="mae")
    store = PreviewSlices(scans[:3], default_preprocessing("MR"))
    assert np.array_equal(shown.original, store.batch(middle_samples(store, 3)).numpy())


def test_polycl_draws_its_examples_from_several_scans(scans, tags):
    shown = preview(scans, task="polycl", slices=4, seed=1)
    again = preview(scans, task="polycl", slices=4, seed=1)
    other = preview(scans, task="polycl", slices=4, seed=2)
    assert shown.original.shape == (4, 1, 64, 64)
    assert np.array_equal(shown.original, again.original)
    assert not np.array_equal(shown.original, other.original)
    assert shown.matrix is None
    store = PreviewSlices(scans, default_preprocessing("MR"))
    every = store.batch(np.arange(len(store))).numpy()
    for part, same in ((shown.partner, True), (shown.corrupted, False)):
        for one, two in zip(shown.original, part, strict=True):
            numbers = [int(np.argmax((every == image).all(axis=(1, 2, 3)))) for image in (one, two)]
            assert (store.scan_index[numbers[0]] == store.scan_index[numbers[1]]) == same
    # By organ one scan is enough; tags of other scans are ignored.
    by_organ = {"selection": "organ", "organ_slices": tags}
    alone = preview(scans[0], task="polycl", options=by_organ)
    assert alone.original.shape == (3, 1, 64, 64)


def test_previews_of_tasks_that_compare_scans_need_several(scans):
    with pytest.raises(DataError, match="add a second scan"):
        preview(scans[0], task="polycl")


# --- trained networks -------------------------------------------------------------------------


def test_a_trained_network_gives_similarities_of_views(scans, tmp_path):
    run = trained(scans, core.GlobalContrast(hidden=8, embedding=4), tmp_path / "run")
    shown = preview(scans, init=run)
    assert shown.matrix.shape == (3, 3)
    assert (abs(shown.matrix) <= 1 + 1e-6).all()
    assert shown.matrix_labels[1] == "one view of 2"
    assert shown.matrix_columns[2] == "another view of 3"
    assert not shown.matrix_distances
    assert preview(scans, task="global-contrast").matrix is None


def test_polycl_preview_of_a_run(scans, tags, tmp_path):
    task = core.PolyCL(selection="organ", organ_slices=tags, embedding=8)
    run = trained(scans, task, tmp_path / "run")
    # Only two of the four scans, although the tags name more.
    shown = preview(scans[:2], init=run)
    assert shown.matrix.shape == (3, 6)
    assert shown.matrix_labels == ("anchor 1", "anchor 2", "anchor 3")
    assert shown.matrix_columns[2:4] == ("positive 3", "negative 1")
    near, far = (f"{shown.matrix[1, at]:.2f}".replace("-", "−") for at in (1, 4))
    assert shown.notes[1] == f"similarity {near} with the positive, {far} with the negative"
    stranger = core.make_patient(77, shape=SHAPE, spacing=(20, 5.6, 5.6))[0]
    with pytest.raises(DataError, match="phantom_mr_000"):
        preview(stranger, init=run)


# --- errors -----------------------------------------------------------------------------------


def test_a_task_of_slices_on_volumes_is_refused(scans):
    with pytest.raises(ConfigError, match=r"global-contrast.*volumes"):
        preview(scans, task="global-contrast", preprocessing=VolumePreprocessing())
    with pytest.raises(DataError, match="no mask"):
        preview(scans, task="siamese")


# --- volumes ----------------------------------------------------------------------------------


def test_restoration_on_volumes_shows_crops(scans):
    settings = VolumePreprocessing(size=(16, 64, 64))
    shown = preview(scans[:2], task="mae", preprocessing=settings, slices=2, seed=5)
    assert shown.original.shape == (2, 1, 16, 64, 64)
    task = make_task("mae", (16, 64, 64))
    draw = task.build((16, 64, 64), 5).sample(2, torch.Generator().manual_seed(5))
    mask = task.build((16, 64, 64), 5).corruption.mask(draw)
    assert np.array_equal(shown.mask, mask.numpy())


def test_pairs_of_kidneys_with_their_distances(tmp_path):
    patients = [
        LabelledScan(*core.make_patient(seed, "CT", (20, 64, 64), (8, 5.6, 5.6)))
        for seed in range(3)
    ]
    options = {"left": (3,), "right": (2,), "crop": (16, 32, 32)}
    shown = preview(patients, task="siamese", options=options, slices=4)
    assert shown.original.shape[2:] == (16, 32, 32)
    assert sorted(set(shown.notes)) == ["opposite sides", "same side"]
    run = core.pretrain(
        patients,
        make_task("siamese", **options),
        out=tmp_path / "run",
        settings=core.PretrainSettings(
            network=Dense3dNetwork(layers=(1, 1), growth=(4, 8), decoder_widths=(8,)),
            training=core.Training(steps=2, batch_size=2),
        ),
        device="cpu",
    )
    trained_pairs = preview(patients, init=run, slices=4)
    assert trained_pairs.matrix_distances
    assert all("distance" in note for note in trained_pairs.notes)


def test_the_command_line_takes_files_and_folders(scans, tmp_path):
    core.write_dataset(tmp_path / "data", 2, "MR", labels=False)
    files = sorted((tmp_path / "data" / "images").iterdir())
    files[0].rename(tmp_path / files[0].name)
    done = CliRunner().invoke(
        app,
        [
            "preview",
            str(tmp_path / files[0].name),
            str(tmp_path / "data" / "images"),
            *("--task", "polycl", "--out", str(tmp_path / "p.png")),
        ],
    )
    assert done.exit_code == 0, done.output
    picture = (tmp_path / "p.png").read_bytes()
    assert len(picture) > 20_000
    again = ["preview", str(tmp_path / files[0].name), "--out", str(tmp_path / "p.png")]
    done = CliRunner().invoke(app, [*again, "--overwrite"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "p.png").read_bytes() != picture
