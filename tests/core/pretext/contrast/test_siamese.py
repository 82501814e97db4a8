"""The left/right task: pairs of crops, distances, mirror images, and a real training."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.contrast.organ_boxes import organ_boxes, organ_crop, whole_organ
from napari_sslseg.core.pretext.contrast.side_pairs import LEFT, RIGHT, UNKNOWN
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.settings.networks import Dense3dNetwork
from napari_sslseg.core.settings.pretext.registry import TaskSettings, describe, make_task

CROP = (16, 32, 32)


class Crops:
    """Organ crops in memory, with the interface of a store of crops."""

    def __init__(self, images, sides, names):
        self.images = np.stack(images)
        self.sides = np.array(sides, np.int8)
        self.scans = tuple(
            SimpleNamespace(name=name, subject=name, start=names.index(name), n_slices=1)
            for name in dict.fromkeys(names)
        )
        order = {scan.name: number for number, scan in enumerate(self.scans)}
        self.scan_index = np.array([order[name] for name in names])

    def __len__(self):
        return len(self.images)

    def batch(self, indices):
        return torch.from_numpy(self.images[indices])


def volume_of(scan, **settings):
    """Normalised volume, shape (C, D, H, W)."""
    slices = Normalizer(scan, core.Preprocessing(modality=scan.modality, **settings)).slices()
    return np.ascontiguousarray(slices.swapaxes(0, 1))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def kidneys():
    """Both kidneys of six phantom patients."""
    images, sides, names = [], [], []
    for seed in range(6):
        scan, labels = core.make_patient(seed, "CT")
        volume = volume_of(scan, windows=(core.CT_WINDOWS["kidney"]))
        for box in organ_boxes(labels.data, left=3, right=2):
            images.append(organ_crop(volume, box, CROP))
            sides.append(box.side)
            names.append(scan.name)
    return Crops(images, sides, names)


def task_of(store=None, **settings):
    task = core.SiameseSides(crop=CROP, **settings).build(CROP)
    if store is not None:
        task.set_store(store)
    return task


def dense(task, seed=0):
    torch.manual_seed(seed)
    return task.wrap(make_network(Dense3dNetwork(), 1, 1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Sums(nn.Module):
    """Embeds each crop as the sums of its left and of its right half."""

    def forward(self, images):
        left, right = images.chunk(2, dim=-1)
        return torch.stack([left.sum(dim=(1, 2, 3, 4)), right.sum(dim=(1, 2, 3, 4))], dim=1)


# --- settings ---------------------------------------------------------------------------------


def test_settings_survive_json_and_have_a_description():
    settings = make_task("siamese", left=(3,), right=(2,))
    assert TypeAdapter(TaskSettings).validate_json(settings.model_dump_json()) == settings
    assert settings.dimensions == (3,)
    assert settings.crop == (64, 112, 112)
    assert describe(settings) == "siamese, sides from masks, crops 64 × 112 × 112"
    for name, field in core.SiameseSides.model_fields.items():
        assert name == "kind" or (field.title and field.description)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"left": (1,)}, "different label values"),
        ({"left": (2,), "right": (2,)}, "different label values"),
        ({"left": (1,), "right": (2,), "organ": (3,)}, "leave out organ"),
        ({"sides": "mirror", "left": (1,), "right": (2,)}, "mirror"),
        ({"sides": "mirror", "mirror_right": True}, "mirror"),
        ({"sides": "mirror", "case_sides": {"a": "left"}}, "mirror"),
        ({"crop": (64, 100, 112)}, "multiples of 16"),
        ({"normalised": True, "margin": 3}, "lower margin"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task("siamese", **options)


# --- pairs and sides --------------------------------------------------------------------------


def test_batches_are_half_of_each_kind(kidneys):
    task = task_of(kidneys)
    for batch in islice(task.batches(np.arange(12), 4)(np.random.default_rng(0)), 50):
        drawn = task.sample_slices(batch, generator())
        assert drawn.same.tolist().count(True) == 2
        assert np.array_equal(drawn.side.numpy(), kidneys.sides[batch])
        assert not drawn.flipped.any()
        first, second = kidneys.scan_index[batch].reshape(2, 4)
        assert (first != second).all()


def test_validation_pairs_are_fixed_and_balanced(kidneys):
    task = task_of(kidneys)
    crops = np.arange(4, 12)
    one, two = (task.validation_batches(crops, 8, 3, 7) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert [len(part) for part in one] == [4, 4, 4, 4]
    assert sum(len(part) // 2 for part in one) == 8
    for part in one:
        assert set(part) <= set(crops)
        assert task.sample_slices(part, generator()).same.tolist() == [True, False]
    # A single patient has no pairs.
    assert task.validation_batches(np.arange(2), 8, 3, 7) == []


def test_sides_can_be_named_by_scan():
    names = ["a", "b", "c", "d", "e"]
    store = Crops([np.zeros((1, 4, 4, 4), np.float32)] * 5, [UNKNOWN] * 5, names)
    named = {"a": "left", "b": "right", "c": "left", "d": "right"}
    task = task_of(store, case_sides=named)
    batch = next(task.batches(np.arange(5), 40)(np.random.default_rng(0)))
    assert set(batch) == {0, 1, 2, 3}
    expected = [LEFT if names[i] in "ac" else RIGHT for i in batch]
    assert task.sample_slices(batch, generator()).side.tolist() == expected
    with pytest.raises(DataError, match="scan z"):
        task_of(store, case_sides=named | {"z": "left"})


def test_unknown_sides_are_refused_except_with_mirror_images(kidneys):
    unknown = Crops(list(kidneys.images), [UNKNOWN] * 12, ["a", "b"] * 6)
    with pytest.raises(DataError, match="side of all crops"):
        task_of(unknown).batches(np.arange(12), 4)
    assert task_of(unknown, sides="mirror").batches(np.arange(12), 4)
    with pytest.raises(DataError, match="left and right"):
        task_of(kidneys, sides="mirror")
    # A store of whole scans has no sides.
    del unknown.sides
    with pytest.raises(DataError, match="side of all crops"):
        task_of(unknown).batches(np.arange(12), 4)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_mirror_images_are_the_other_side(kidneys, n):
    left = np.flatnonzero(kidneys.sides == LEFT).repeat(4)[: 2 * n]
    task = task_of(sides="mirror")
    images = kidneys.batch(left)
    kept = images.clone()
    counts, flips = [], 0
    for seed in range(60):
        drawn = task.sample_slices(left, generator(seed))
        counts.append(int(drawn.same.sum()))
        assert torch.equal(drawn.side == RIGHT, drawn.flipped)
        shown = task.apply(images, drawn)
        assert torch.equal(shown[drawn.flipped], images[drawn.flipped].flip(-1))
        assert torch.equal(shown[~drawn.flipped], images[~drawn.flipped])
        flips += int(drawn.flipped.sum())
    assert set(counts) == {n // 2, n - n // 2}
    assert 0.35 < flips / (60 * 2 * n) < 0.65
    assert torch.equal(images, kept)


def test_right_organs_can_be_mirrored(kidneys):
    task = task_of(kidneys, mirror_right=True)
    crops = np.array([0, 1, 3, 2])
    drawn = task.sample_slices(crops, generator())
    assert drawn.flipped.tolist() == (kidneys.sides[crops] == RIGHT).tolist()
    assert drawn.same.tolist() == [False, False]


def test_one_scan_is_not_enough_for_sides():
    with pytest.raises(ConfigError, match="several scans"):
        task_of().sample(4, generator())
    assert task_of(sides="mirror").sample(4, generator()).side.shape == (4,)


# --- embeddings, loss, metrics ----------------------------------------------------------------


def test_the_flat_embedding_has_the_numbers_of_the_paper():
    task = core.SiameseSides(embedding="flat").build((64, 112, 112))
    with torch.inference_mode():
        assert dense(task)(torch.zeros(1, 1, 64, 112, 112)).shape == (1, 28_224)


def test_embeddings_are_pooled_and_normalised_on_request(kidneys):
    images = kidneys.batch(np.arange(3))
    pooled = dense(task_of())(images)
    assert pooled.shape == (3, 144)
    flat = dense(task_of(embedding="flat"))(images)
    torch.testing.assert_close(flat.view(3, 144, -1).mean(2), pooled)
    unit = dense(task_of(normalised=True))(images)
    torch.testing.assert_close(unit, nn.functional.normalize(pooled, dim=1))
    names = {name.split(".")[0] for name in dense(task_of()).state_dict()}
    assert names == {"encoder"}


def test_loss_and_metrics_by_hand(kidneys):
    """Two pairs of crops of two voxels: 0 and 2 of the same side, 1 and 3 of opposite sides."""
    images = torch.zeros(4, 1, 1, 1, 2)
    images[:, 0, 0, 0] = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, 0.4], [1.0, 0.6]])
    store = Crops(list(images.numpy()), [LEFT, LEFT, LEFT, RIGHT], ["a", "b", "c", "d"])
    task = task_of(store)
    drawn = task.sample_slices(np.arange(4), generator())
    assert drawn.same.tolist() == [True, False]
    # Same side 0.5 apart: 0.25. Opposite sides 0.6 apart: (1 − 0.6)² = 0.16.
    loss = task.loss(Sums(), images, drawn)
    assert loss.item() == pytest.approx((0.25 + 0.16) / 2, abs=1e-6)
    found = task.metrics(Sums(), images, drawn)
    assert found["same distance"] == pytest.approx(0.5)
    assert found["opposite distance"] == pytest.approx(0.6)
    assert found["pair accuracy"] == 0.5
    # Squares from the mean (0.575, 0.25): 0.393, 0.243, 0.098, 0.303; twice the root of their mean.
    assert task_of(store, margin=2).metrics(Sums(), images, drawn)["spread"] == pytest.approx(
        0.5093, abs=1e-4
    )
    assert found["spread"] == 1  # at most
    # The distance of the opposite pair exceeds a margin of 0.4.
    assert task_of(store, margin=0.4).loss(Sums(), images, drawn).item() == pytest.approx(0.125)


def test_the_spread_shows_a_collapse(kidneys):
    task = task_of(kidneys)
    model = dense(task)
    drawn = task.sample_slices(np.arange(12), generator())
    images = kidneys.batch(np.arange(12))
    with torch.inference_mode():
        assert 0.2 < task.metrics(model, images, drawn)["spread"] <= 1
        for parameter in model.parameters():
            parameter.mul_(0.05)
        found = task.metrics(model, images, drawn)
    assert found["spread"] < 0.05
    # The directions of the embeddings still differ and would not show it.
    assert found["same distance"] < 0.05 * task.settings.margin


def test_a_batch_of_one_kind_has_no_distance_of_the_other(kidneys):
    task = task_of(kidneys)
    drawn = task.sample_slices(np.array([0, 2]), generator())
    found = task.metrics(Sums(), kidneys.batch(np.array([0, 2])), drawn)
    assert "same distance" in found
    assert "opposite distance" not in found


def test_training_tells_left_from_right_kidneys(kidneys):
    """The dense encoder on phantom kidneys, from the crops to the loss on the same pairs."""
    task = task_of(kidneys)
    model = dense(task)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    (watched,) = task.validation_batches(np.arange(12), 16, 16, 0)
    drawn = task.sample_slices(watched, generator())

    def figures():
        with torch.inference_mode():
            images = kidneys.batch(watched)
            return float(task.loss(model, images, drawn)), task.metrics(model, images, drawn)

    before, _ = figures()
    for batch in islice(task.batches(np.arange(12), 4)(np.random.default_rng(0)), 40):
        optimiser.zero_grad()
        loss = task.loss(model, kidneys.batch(batch), task.sample_slices(batch, generator()))
        loss.backward()
        optimiser.step()
    after, found = figures()
    assert after < 0.6 * before
    assert found["opposite distance"] > 1.5 * found["same distance"]
    assert found["pair accuracy"] > 0.75
    assert found["spread"] > 0.2


def test_training_distinguishes_real_hippocampi_from_mirror_images(data_dir):
    folder = data_dir / "msd_hippocampus"
    images, names = [], []
    for path in sorted((folder / "images").glob("*.nii.gz"))[:4]:
        scan = core.load_volume(path, modality="MR")
        labels = core.load_labels(folder / "labels" / path.name, like=scan)
        box = whole_organ((labels.data > 0).astype(np.uint8), 1)
        images.append(organ_crop(volume_of(scan), box, (32, 48, 32)))
        names.append(scan.name)
    store = Crops(images, [UNKNOWN] * 4, names)
    task = task_of(store, sides="mirror")
    model = dense(task)
    batch = next(task.batches(np.arange(4), 4)(np.random.default_rng(0)))
    drawn = task.sample_slices(batch, generator())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = task.loss(model, store.batch(batch), drawn)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


# --- preview ----------------------------------------------------------------------------------


def test_the_preview_shows_pairs_with_their_distances(kidneys):
    task = task_of(kidneys, mirror_right=True)
    batch = next(task.batches(np.arange(12), 3)(np.random.default_rng(0)))
    drawn = task.sample_slices(batch, generator())
    images = kidneys.batch(batch)
    plain = task.preview(images, drawn)
    words = ["same side" if same else "opposite sides" for same in drawn.same.tolist()]
    assert list(plain.notes) == words
    assert plain.matrix is None
    shown = task.apply(images, drawn).numpy()
    assert np.array_equal(plain.original, shown[:3])
    assert np.array_equal(plain.partner, shown[3:])
    assert set(plain.captions) == {"original", "partner"}
    model = Sums().train()
    found = task.preview(images, drawn, model)
    assert model.training
    first, second = (Sums()(torch.from_numpy(part)) for part in (shown[:3], shown[3:]))
    distance = (first - second).norm(dim=1).numpy()
    assert list(found.notes) == [
        f"{word}, distance {value:.2f}" for word, value in zip(words, distance, strict=True)
    ]
    np.testing.assert_allclose(found.matrix.diagonal(), distance, rtol=1e-4)
    assert found.matrix.shape == (3, 3)
    assert found.matrix_distances
