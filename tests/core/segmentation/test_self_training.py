"""Self-training: pseudo labels, their loss, the averaged network, and whole runs."""

import json
import shutil
from math import log

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.events import Message, Step
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.runs.lineage import find_data_use, patient_key
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.formats.nifti import write_nifti
from napari_sslseg.core.segmentation.pseudo_labels import PseudoLabels
from napari_sslseg.core.segmentation.self_training import (
    confident_labels,
    pseudo_label_loss,
    round_starts,
    strong_views,
)
from napari_sslseg.core.segmentation.unlabelled import remove_copies, unlabelled_scans
from napari_sslseg.core.training.weight_average import AveragedNetwork


def logits(*shares):
    """Scores of an image of one row, whose softmax are these probabilities."""
    return torch.tensor(shares).log().T[None, :, None]


class Says(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, images):
        return self.scores


def test_rounds_begin_at_equal_intervals():
    asked = core.SelfTraining(begin=0.4, rounds=2)
    assert round_starts(asked, 1000) == (400, 700)
    assert round_starts(core.SelfTraining(begin=0.25, rounds=3), 400) == (100, 200, 300)
    assert round_starts(core.SelfTraining(begin=0.5, rounds=1), 10) == (5,)
    # A training of a few steps has fewer rounds, and none before the first step.
    assert round_starts(core.SelfTraining(begin=0.1, rounds=50), 3) == (1, 2)
    assert round_starts(asked, 1) == ()


def test_only_labels_with_a_high_probability_are_kept():
    scores = logits((0.9, 0.06, 0.04), (0.2, 0.79, 0.01), (0.05, 0.1, 0.85))
    images = torch.zeros(1, 1, 1, 3)
    assert confident_labels(Says(scores), images, "dice-ce", 0.8).tolist() == [[[0, 3, 2]]]
    assert confident_labels(Says(scores), images, "dice-ce", 0.0).tolist() == [[[0, 1, 2]]]
    # One channel for each class: probabilities 1 - p and p for a single class.
    single = torch.tensor([0.9, 0.3]).logit().view(1, 1, 1, 2)
    assert confident_labels(Says(single), images, "dice", 0.8).tolist() == [[[1, 2]]]


def test_the_loss_covers_only_labelled_pixels():
    scores = logits((0.7, 0.2, 0.1), (0.2, 0.6, 0.2), (0.1, 0.1, 0.8))
    targets = torch.tensor([[[0, 1, 3]]])  # The last pixel has no label.
    entropy = -(log(0.7) + log(0.6)) / 3
    first = 1 - (2 * 0.6 + 1e-5) / (0.2 + 0.6 + 1 + 1e-5)
    second = 1 - 1e-5 / (0.1 + 0.2 + 1e-5)
    expected = entropy + (first + second) / 2
    assert float(pseudo_label_loss(scores, targets, "dice-ce")) == pytest.approx(expected, rel=1e-5)


def test_without_labels_the_loss_is_zero():
    scores = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = pseudo_label_loss(scores, torch.full((2, 4, 4), 3), "dice-ce")
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert not scores.grad.any()


@pytest.mark.parametrize("kind", ["dice-ce", "dice", "dice-per-sample", "bce-to-dice"])
def test_the_loss_falls_to_zero_for_matching_scores(kind):
    targets = torch.randint(0, 3, (2, 6, 6), generator=torch.Generator().manual_seed(0))
    channels = 3 if kind == "dice-ce" else 2
    scores = torch.zeros(2, channels, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.5)
    first = pseudo_label_loss(scores, targets, kind).item()
    for _ in range(80):
        optimizer.zero_grad()
        loss = pseudo_label_loss(scores, targets, kind)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first


def test_labels_are_transformed_with_their_image():
    """Labels that follow from the pixels still match them after augmentation."""
    targets = torch.zeros(8, 32, 32, dtype=torch.int64)
    for number in range(8):
        targets[number, 4 + number : 16 + number, 8:24] = 1 + number % 2
    images = targets[:, None].float()
    still = core.Augmentation(intensity=0, noise=0)
    asked = core.SelfTraining(augmentation=None)
    views, moved = strong_views(images, targets, still, asked, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, targets)
    # Between structures pixels are interpolated, labels are not.
    assert (views[:, 0].round().long() == moved).float().mean() > 0.97


STILL = dict.fromkeys(core.Augmentation.model_fields, 0)


def test_unlabelled_slices_have_their_own_augmentation():
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    targets = (images[:, 0] > 0).long()
    strong, still = core.Augmentation(), core.Augmentation(**STILL)

    def views(labelled, own):
        asked = core.SelfTraining(cutmix=0, augmentation=own)
        return strong_views(images, targets, labelled, asked, torch.Generator().manual_seed(2))

    for labelled, own in (still, None), (strong, still):
        images_after, labels_after = views(labelled, own)
        torch.testing.assert_close(images_after, images, atol=1e-5, rtol=0)
        assert torch.equal(labels_after, targets)
    bright = core.Augmentation(**(STILL | {"intensity": 0.5}))
    images_after, labels_after = views(still, bright)
    assert torch.equal(labels_after, targets)
    flat, before = images_after.flatten(1), images.flatten(1)
    # Only contrast and brightness: each image is a linear function of the original.
    for one, other in zip(flat, before, strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.999
    assert (flat.std(1) / before.std(1) - 1).abs().max() > 0.1
    own = core.SelfTraining().augmentation
    usual = core.Augmentation()
    assert (own.intensity, own.noise) > (usual.intensity, usual.noise)
    assert own.rotation == usual.rotation


class TestPseudoLabels:
    """Labels of a teacher for a store with two annotated slices."""

    @pytest.fixture
    def store(self, patients):
        item = core.LabelledScan(*patients[0], (2, 5))
        return SliceStore.build(
            [item, patients[1][0]], core.Preprocessing(), classes=(1, 2, 3, 4, 5)
        )

    def labels_of(self, store, network, rounds=(1,), **values):
        teacher = AveragedNetwork(network, network, 0.5, rounds)
        teacher.update()
        asked = settings(self_training=core.SelfTraining(threshold=0.0, **values))
        return teacher, PseudoLabels(store, teacher, asked, torch.device("cpu"))

    def test_annotated_slices_keep_their_labels(self, store):
        class Bright(nn.Module):
            """Liver where it is bright; the rest is background."""

            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(()))

            def forward(self, images):
                scores = torch.full((len(images), 6, *images.shape[2:]), -9.0)
                scores[:, :1] = 0.0
                scores[:, 1:2] = images * self.weight
                return scores

        _, labels_of = self.labels_of(store, Bright(), least_part=0)
        every = np.arange(len(store))
        found = labels_of(every)
        known = store.annotated
        torch.testing.assert_close(found[known], store.label_batch(every[known]))
        bright = store.batch(every)[:, 0] > 0
        torch.testing.assert_close(found[~known], bright[~known].long())
        torch.testing.assert_close(labels_of(every[[7, 3]]), found[[7, 3]])

    def test_they_are_cached_until_the_next_round(self, store):
        network = nn.Conv2d(1, 6, 1)
        teacher, labels_of = self.labels_of(store, network, rounds=(1, 3), least_part=0)
        assert teacher.round == 1
        before = labels_of(np.arange(10, 20))
        with torch.no_grad():
            network.weight.neg_()
            network.bias.neg_()
        teacher.update()
        assert torch.equal(labels_of(np.arange(10, 20)), before)
        teacher.update()
        assert teacher.round == 2
        assert not torch.equal(labels_of(np.arange(10, 20)), before)


class TestAveragedNetwork:
    def test_is_a_moving_average_with_a_smaller_decay_at_first(self):
        network = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            network.weight.fill_(0.0)
        averaged = AveragedNetwork(network, network, 0.5)
        expected = 0.0
        for step, weight in enumerate((10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)):
            with torch.no_grad():
                network.weight.fill_(weight)
            averaged.update()
            decay = min(0.5, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * weight
            assert averaged.average.weight.item() == pytest.approx(expected)
        assert int(averaged.steps) == 9

    def test_trains_the_network_and_evaluates_the_average(self):
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        averaged = AveragedNetwork(network, network, 0.9).train()
        inputs = torch.randn(8, 2)
        with torch.no_grad():
            network[0].weight.add_(1.0)
        assert torch.equal(averaged(inputs), network(inputs))
        before = averaged.average[1].running_mean.clone()
        averaged.update()
        # The first update has a decay of 1/10, of the statistics as of the weights.
        expected = 0.1 * before + 0.9 * network[1].running_mean
        torch.testing.assert_close(averaged.average[1].running_mean, expected)
        assert averaged.average[1].num_batches_tracked == network[1].num_batches_tracked
        averaged.eval()
        assert torch.equal(averaged(inputs), averaged.average(inputs))
        assert not torch.allclose(averaged(inputs), network(inputs))
        assert not averaged.train().average[1].training

    def test_its_average_gets_no_gradients(self):
        network = nn.Linear(2, 2)
        averaged = AveragedNetwork(network, network, 0.9)
        averaged(torch.ones(1, 2)).sum().backward()
        assert network.weight.grad is not None
        assert all(weight.grad is None for weight in averaged.average.parameters())


# The whole fine-tuning


@pytest.fixture(scope="module")
def patients():
    return [make_patient(seed, "MR", (10, 48, 48), (16.0, 7.0, 7.0)) for seed in range(4)]


def settings(steps=24, **values):
    usual = {
        "training": core.Training(steps=steps, batch_size=4),
        "average_decay": 0.9,
        "self_training": core.SelfTraining(begin=0.25),
    }
    return core.FinetuneSettings(network=core.Network.preset("tiny"), **{**usual, **values})


def labelled(patients, *numbers, slices=(2, 5)):
    return [core.LabelledScan(*patients[number], slices) for number in numbers]


def finetune(out, patients, **values):
    given = {"settings": settings(), "device": "cpu", "threads": 1, **values}
    if given["settings"].self_training is not None:
        given.setdefault("unlabelled", [volume for volume, _ in patients])
    return core.finetune(labelled(patients, 0), out=out, **given)


def messages_of(events):
    return [event.text for event in events if isinstance(event, Message)]


def weights(run):
    return load_file(run.weights)


def test_unlabelled_slices_change_the_weights_and_are_recorded(tmp_path, patients):
    run = finetune(tmp_path / "both", patients)
    record = run.record
    roles = {entry["name"]: entry["role"] for entry in record["data"]}
    names = [volume.name for volume, _ in patients]
    assert roles == {names[0]: "training"} | dict.fromkeys(names[1:], "unlabelled")
    # All but the two that are annotated.
    assert record["slices"] == {"training": 2, "validation": 0, "unlabelled": 38}
    assert all(entry["labels"] == "" for entry in record["data"][1:])
    seen = find_data_use(run)
    assert patient_key(names[0]) in seen.training
    assert patient_key(names[1]) in seen.unlabelled
    assert patient_key(names[1]) not in seen.training
    alone = finetune(tmp_path / "alone", patients, settings=settings(self_training=None))
    assert "unlabelled" not in alone.record["slices"]
    assert len(alone.record["data"]) == 1
    one, other = weights(run), weights(alone)
    assert set(one) == set(other)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert core.predict(run, patients[1][0], device="cpu").labels.shape == (10, 48, 48)


@pytest.fixture
def folders(tmp_path, patients):
    """As in the tutorial: p0 has labels, and is both in its own folder and among all others."""
    every, own = tmp_path / "scans", tmp_path / "labelled"
    every.mkdir()
    for number, (volume, labels) in enumerate(patients[:3]):
        path = every / f"p{number}.nii.gz"
        write_nifti(volume.geometry.to_source(volume.data), volume.geometry, None, path)
        if number == 0:
            (own / "images").mkdir(parents=True)
            shutil.copy(path, own / "images")
            core.save_labels(labels.data, own / "labels" / path.name, like=volume)
    return own, every


def from_folders(folders, out, stop_at=None, **values):
    """Events of a fine-tuning on the scans in the folders."""
    own, every = folders
    stop, events = core.StopFlag(), []
    marked = None if values.get("resume") else {"p0": (2, 5)}
    for event in core.iter_finetune(
        core.pair_scans(own / "images", own / "labels", annotated=marked),
        **{"unlabelled": every, "out": out, "stop": stop, "device": "cpu", "threads": 1} | values,
    ):
        events.append(event)
        if isinstance(event, Step) and event.step == stop_at:
            stop.set()
    return events


def test_copies_of_labelled_scans_are_left_out(tmp_path, folders):
    events = from_folders(folders, tmp_path / "run", settings=settings(4))
    record = events[-1].result.record
    # Eight other slices of the labelled patient, and all slices of the two others.
    assert record["slices"] == {"training": 2, "validation": 0, "unlabelled": 8 + 20}
    assert [(entry["name"], entry["role"]) for entry in record["data"]] == [
        ("p0", "training"), ("p1", "unlabelled"), ("p2", "unlabelled"),
    ]  # fmt: skip
    assert record["scans"] == ["p0", "p1", "p2"]
    assert any("copies" in text and "p0" in text for text in messages_of(events))
    lines = map(json.loads, (tmp_path / "run" / "events.jsonl").read_text().splitlines())
    (begun,) = [line for line in lines if "name" in line]
    assert (begun["event"], begun["step"]) == ("Message", 1)
    assert begun["name"] == "with unlabelled slices"


def test_copies_are_found_in_another_type_and_order(folders):
    own, every = folders
    image = nib.load(every / "p0.nii.gz")
    turned = image.as_reoriented([[1, 1], [0, -1], [2, 1]])
    values = turned.get_fdata(dtype=np.float64)
    nib.save(nib.Nifti1Image(values, turned.affine), every / "again.nii")
    labelled = core.pair_scans(own / "images", own / "labels")
    left, copies = remove_copies(unlabelled_scans(every, labelled, ()), labelled)
    assert [scan.name for scan in left] == ["p1", "p2"]
    assert copies == ["again", "p0"]
    assert remove_copies(left, labelled) == (left, [])


def test_label_maps_are_refused_as_scans(tmp_path, folders):
    own, every = folders
    shutil.copy(own / "labels" / "p0.nii.gz", every / "p3.nii.gz")
    found = r"1 of the 3 .*label maps: p3"
    with pytest.raises(DataError, match=found):
        from_folders(folders, tmp_path / "run", settings=settings(4))
    with pytest.raises(DataError, match="1 of the 1 scans"):
        core.pretrain(own / "labels", out=tmp_path / "pre", device="cpu")
    # Labelled binary scans are intended.
    shutil.copy(own / "labels" / "p0.nii.gz", own / "images" / "p0.nii.gz")
    events = from_folders(folders, tmp_path / "binary", settings=settings(4))
    assert events[-1].result.record["status"] == "finished"


def test_a_training_resumes_without_the_copies(tmp_path, folders):
    asked = settings()
    whole = from_folders(folders, tmp_path / "whole", settings=asked)[-1].result
    from_folders(folders, tmp_path / "part", settings=asked, stop_at=9)
    (folders[1] / "p0.nii.gz").unlink()
    resumed = from_folders(folders, tmp_path / "part", resume=True)[-1].result
    assert resumed.record["status"] == "finished"
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor), name


def test_missing_scans_are_reported_when_resuming(tmp_path, folders):
    own, every = folders
    run = tmp_path / "run"
    from_folders(folders, run, settings=settings(), stop_at=9)
    with pytest.raises(core.SslsegError, match=r"p1.*--unlabelled"):
        from_folders(folders, run, resume=True, unlabelled=())
    moved = (every / "p1.nii.gz").rename(tmp_path / "p1.nii.gz")
    with pytest.raises(core.SslsegError, match=r"scan p1, .* put it back"):
        from_folders(folders, run, resume=True)
    moved.rename(every / "p1.nii.gz")
    # The labelled copy has changed; the copy among the unlabelled scans does not replace it.
    image = nib.load(every / "p0.nii.gz")
    changed = nib.Nifti1Image(image.get_fdata(dtype=np.float32) + 1, image.affine)
    nib.save(changed, own / "images" / "p0.nii.gz")
    with pytest.raises(core.SslsegError, match="scan p0 was changed"):
        from_folders(folders, run, resume=True)
    given = {"out": run, "resume": True, "device": "cpu"}
    with pytest.raises(core.SslsegError, match=r"labels.* p0"):
        core.finetune([], unlabelled=every, **given)


def test_a_training_of_one_step_reports_that_it_uses_only_labels(tmp_path, patients):
    given = {"unlabelled": [patients[1][0]], "settings": settings(1), "device": "cpu"}
    events = list(core.iter_finetune(labelled(patients, 0), out=tmp_path / "run", **given))
    assert any("too short" in text for text in messages_of(events))
    assert events[-1].result.record["status"] == "finished"


def test_the_average_is_saved(tmp_path, patients):
    """With a tiny decay it equals the network; with a large one it lags behind."""
    plain = finetune(
        tmp_path / "plain", patients, settings=settings(average_decay=0, self_training=None)
    )
    near = finetune(
        tmp_path / "near", patients, settings=settings(average_decay=1e-9, self_training=None)
    )
    far = finetune(tmp_path / "far", patients, settings=settings(self_training=None))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(near)[name], tensor, rtol=1e-4, atol=1e-5)
    gaps = [(weights(far)[name] - tensor).abs().max() for name, tensor in weights(plain).items()]
    assert max(gaps) > 1e-4


@pytest.mark.parametrize(
    "asked", [core.SelfTraining(begin=0.25, rounds=3), pytest.param(None, marks=pytest.mark.slow)]
)
def test_a_stopped_training_resumes_to_the_same_weights(tmp_path, patients, asked):
    asked = settings(self_training=asked)
    whole = finetune(tmp_path / "whole", patients, settings=asked)
    stop, given = core.StopFlag(), {"device": "cpu", "threads": 1}
    scans = [volume for volume, _ in patients] if asked.self_training else []
    for event in core.iter_finetune(
        labelled(patients, 0), unlabelled=scans, out=tmp_path / "part", settings=asked, stop=stop,
        **given,
    ):  # fmt: skip
        if isinstance(event, Step) and event.step == 9:
            stop.set()
    resumed = core.finetune(
        labelled(patients, 0), unlabelled=scans[::-1], out=tmp_path / "part", resume=True, **given
    )
    assert resumed.record["status"] == "finished"
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor), name


def test_a_missing_scan_is_named_when_resuming(tmp_path, patients):
    stop = core.StopFlag()
    scans = [volume for volume, _ in patients]
    for event in core.iter_finetune(
        labelled(patients, 0), unlabelled=scans, out=tmp_path / "run", settings=settings(),
        stop=stop, device="cpu",
    ):  # fmt: skip
        if isinstance(event, Step) and event.step == 3:
            stop.set()
    with pytest.raises(core.SslsegError, match=patients[2][0].name):
        core.finetune(
            labelled(patients, 0), unlabelled=[scans[1], scans[3]], out=tmp_path / "run",
            resume=True, device="cpu",
        )  # fmt: skip


def test_slices_of_validation_subjects_are_not_used(tmp_path, patients):
    run = finetune(tmp_path / "run", patients, validation=labelled(patients, 3))
    roles = {entry["name"]: entry["role"] for entry in run.record["data"]}
    names = [volume.name for volume, _ in patients]
    assert roles[names[3]] == "validation"
    # Eight slices of the first patient are unlabelled, and all ten of the two others.
    assert run.record["slices"] == {"training": 2, "validation": 2, "unlabelled": 28}


def test_before_the_first_round_only_labelled_slices_are_used(tmp_path, patients):
    """Unlabelled slices affect the loss only from the first round on."""
    late = core.SelfTraining(begin=0.5, rounds=1)
    runs = []
    for name, others in (("two", patients[1:3]), ("one", patients[3:])):
        steps = []
        for event in core.iter_finetune(
            labelled(patients, 0), unlabelled=[p[0] for p in others], out=tmp_path / name,
            settings=settings(8, self_training=late), device="cpu", threads=1,
        ):  # fmt: skip
            if isinstance(event, Step):
                steps.append(event.loss)
        runs.append(steps)
    assert runs[0][:4] == runs[1][:4]
    assert all(a != b for a, b in zip(runs[0][4:], runs[1][4:], strict=True))


def test_unlabelled_scans_without_self_training_are_refused(tmp_path, patients):
    with pytest.raises(core.SslsegError, match="set self_training"):
        core.finetune(
            labelled(patients, 0), unlabelled=[patients[1][0]], out=tmp_path / "run",
            settings=settings(self_training=None), device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_without_unlabelled_slices_it_is_refused(tmp_path, patients):
    with pytest.raises(DataError, match="no unlabelled slice"):
        core.finetune(
            labelled(patients, 0, 1, slices=None), out=tmp_path / "run", settings=settings(),
            unlabelled=[patients[0][0]], device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_a_folder_of_scans_leaves_out_those_with_labels(tmp_path, patients):
    (tmp_path / "scans").mkdir()
    for volume, truth in patients:
        core.save_labels(truth.data, tmp_path / f"{volume.name}_labels.nii.gz", like=volume)
        source = np.ascontiguousarray(volume.geometry.to_source(volume.data))
        image = nib.Nifti1Image(source, volume.geometry.affine)
        nib.save(image, tmp_path / "scans" / f"{volume.name}.nii.gz")
    name = patients[0][0].name
    item = core.LabelledScan(
        tmp_path / "scans" / f"{name}.nii.gz", tmp_path / f"{name}_labels.nii.gz", (2, 5)
    )
    run = core.finetune(
        [item], out=tmp_path / "run", settings=settings(6), unlabelled=tmp_path / "scans",
        device="cpu",
    )  # fmt: skip
    assert len(run.record["data"]) == 4
    assert run.record["slices"]["unlabelled"] == 38


def test_the_teacher_needs_an_average():
    with pytest.raises(ConfigError, match="average_decay"):
        settings(average_decay=0)
