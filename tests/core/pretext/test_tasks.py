"""Properties of all pretext tasks."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, ScanWarning
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.pretext.pictures.figure import preview_figure
from napari_sslseg.core.pretext.pictures.preview import preview as preview_scan
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.settings.pretext.registry import TASKS, TaskSettings, describe, make_task

SIZE = (64, 48)
VOLUME = (16, 32, 24)
SIZES = [SIZE, VOLUME]
RESTORING = [
    "context-restoration",
    "context-prediction",
    "masked-pixels",
    "mae",
    "models-genesis",
    "volume-fusion",
]


pytestmark = pytest.mark.usefixtures("one_thread")


def noise(size, channels=2):
    return torch.randn(6, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images():
    return noise(SIZE)


def build(name, size=SIZE):
    return make_task(name, size).build(size, 0)


def draw(task, n=6, seed=0):
    return task.sample(n, torch.Generator().manual_seed(seed))


class Recorder(nn.Module):
    """One convolution that records its inputs and its mode."""

    def __init__(self, inputs, outputs, dimensions=2):
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.convolve = convolution(inputs, outputs, 3, padding=1)

    def forward(self, images):
        self.seen = images.detach().clone()
        self.mode = self.training
        return self.convolve(images)


# --- settings ---------------------------------------------------------------------------------


def test_settings_load_no_torch():
    code = (
        "import sys; from napari_sslseg.core.settings.pretext import registry;"
        "[kind() for kind in registry.TASKS.values()];"
        "assert not {'torch', 'matplotlib', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", RESTORING)
def test_settings_survive_json_by_kind(name):
    settings = make_task(name, SIZE)
    adapter = TypeAdapter(TaskSettings)
    assert adapter.validate_json(settings.model_dump_json()) == settings
    assert settings.kind == name
    assert type(settings) is TASKS[name]
    with pytest.raises(ValidationError):
        settings.kind = "other"


@pytest.mark.parametrize("name", RESTORING)
def test_every_setting_has_a_title_description_and_source(name):
    kind = TASKS[name]
    assert kind.title
    assert kind.__doc__
    assert " et al. 20" in kind.__doc__
    for field_name, field in kind.model_fields.items():
        if field_name != "kind":
            assert field.title, field_name
            assert field.description, field_name


@pytest.mark.parametrize("name", RESTORING)
def test_a_task_is_described_by_its_name(name):
    task = build(name)
    assert task.name == name
    assert task.title == TASKS[name].title
    words = describe(make_task(name, SIZE))
    assert words.startswith(f"{name}, ")
    assert len(words) < 80


def test_options_of_other_tasks_are_refused_naming_those_tasks():
    with pytest.raises(ConfigError, match=r"context-restoration, context-prediction\.$"):
        make_task("mae", SIZE, sampling="uniform")
    with pytest.raises(ConfigError, match=r"patch_size.*, mae, spark\.$"):
        make_task("masked-pixels", SIZE, patch_size=8)
    with pytest.raises(ConfigError, match=r"No pretext task.*colour"):
        make_task("mae", SIZE, colour=3)
    with pytest.raises(ConfigError, match="context-restoration, "):
        make_task("jigsaw", SIZE)
    with pytest.raises(ConfigError, match=r"share cannot be 1\.5"):
        make_task("mae", SIZE, share=1.5)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("context-restoration", {512: 32, 256: 16, 128: 8}),
        ("context-prediction", {512: 32, 256: 16, 128: 8}),
        ("mae", {512: 64, 256: 32, 128: 16, 192: 16}),
    ],
)
def test_patches_are_chosen_by_the_size_of_the_slices(name, sides):
    for size, side in sides.items():
        assert make_task(name, (size, size + 16)).patch_size == side
    assert make_task(name, (512, 512), patch_size=9).patch_size == 9
    assert make_task(name).patch_size == 32


def test_masked_pixels_warn_about_slices_not_scaled_to_one():
    task = make_task("masked-pixels")
    assert task.remark(core.Preprocessing(normalize="unit")) is None
    assert "0…1" in task.remark(core.Preprocessing(normalize="volume"))
    assert make_task("mae").remark(core.Preprocessing()) is None


# --- corruption, preview and loss --------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESTORING)
def test_the_seed_determines_the_corruption_and_images_stay_unchanged(name, size):
    task, images = build(name, size), noise(size)
    kept = images.clone()
    first = task.apply(images, draw(task))
    assert torch.equal(images, kept)
    assert first.shape == images.shape
    assert first.isfinite().all()
    again = build(name, size)
    assert torch.equal(again.apply(images, draw(again)), first)
    assert not torch.equal(task.apply(images, draw(task, seed=1)), first)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESTORING)
def test_each_image_is_corrupted_differently(name, size):
    task, images = build(name, size), noise(size)
    mask = task.preview(images, draw(task)).mask
    assert len({image.tobytes() for image in mask}) >= 4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESTORING)
def test_all_channels_are_corrupted_at_the_same_places(name, size):
    task = build(name, size)
    one = noise(size, channels=1)
    # Channels have different scales, like CT windows.
    both = torch.cat([one, 3 * one + 100], dim=1)
    out = task.apply(both, draw(task))
    changed = (out != both).numpy()
    assert changed.any()
    if name == "models-genesis":
        # This task changes nearly every pixel, in each channel by the same rule on its scale.
        torch.testing.assert_close(out[:, 1], 3 * out[:, 0] + 100, rtol=0, atol=1e-3)
    else:
        assert np.array_equal(changed[:, 0], changed[:, 1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESTORING)
def test_the_preview_shows_the_corruption_of_the_training(name, size):
    task, images = build(name, size), noise(size)
    parameters = draw(task)
    model = Recorder(2, task.output_channels(2), len(size)).train()
    loss = task.loss(model, images, parameters)
    assert loss.shape == ()
    loss.backward()
    assert all((weights.grad != 0).any() for weights in model.parameters())
    seen = model.seen.numpy()
    shown = task.preview(images, parameters, model)
    assert model.mode is False
    assert model.training
    assert np.array_equal(shown.corrupted, seen)
    assert np.array_equal(shown.original, images.numpy())
    assert shown.mask.dtype == bool
    assert shown.mask.shape == (6, 1, *size)
    target = shown.original if shown.levels is None else shown.levels
    assert np.array_equal(shown.error, np.abs(shown.restored - target))
    assert all(getattr(shown, named) is not None for named in shown.captions)
    images.zero_()
    assert shown.original.any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["masked-pixels", "mae"])
def test_the_preview_restores_only_pixels_in_the_loss(name, size):
    task, images = build(name, size), noise(size)
    shown = task.preview(images, draw(task), Recorder(2, 2, len(size)))
    kept = ~np.broadcast_to(shown.mask, shown.original.shape)
    assert np.array_equal(shown.restored[kept], shown.original[kept])
    assert (shown.error[kept] == 0).all()
    assert (shown.error[~kept] > 0).mean() > 0.99


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["masked-pixels", "mae"])
def test_visible_pixels_get_no_gradient(name, size):
    images = noise(size)

    class Free(nn.Module):
        """Returns the same output for any input."""

        def __init__(self):
            super().__init__()
            self.output = nn.Parameter(torch.full(images.shape, 9.0))

        def forward(self, images):
            return self.output

    task, model = build(name, size), Free()
    parameters = draw(task)
    task.loss(model, images, parameters).backward()
    hidden = torch.from_numpy(task.preview(images, parameters).mask).expand_as(images)
    assert torch.equal(model.output.grad != 0, hidden)


@pytest.mark.parametrize("name", RESTORING)
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_figures_have_a_title_above_every_column(name, images, tmp_path):
    task = build(name)
    for model, columns in ((None, -2), (Recorder(2, task.output_channels(2)), 0)):
        shown = task.preview(images[:3], draw(task, 3), model)
        figure = preview_figure(shown, channel=1)
        n = len(shown.captions) + columns
        assert len(figure.axes) == 3 * n
        titles = [axis.get_title() for axis in figure.axes[:n]]
        assert set(titles) <= set(shown.captions.values())
        assert titles[0] == "Original"
        figure.savefig(tmp_path / "preview.png")
        box = figure.axes[0].title.get_window_extent()
        for axis in figure.axes[1:n]:
            other = axis.title.get_window_extent()
            assert box.x1 < other.x0  # titles do not overlap
            box = other
        assert box.x1 <= figure.get_window_extent().x1


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESTORING)
def test_a_network_learns_each_task_and_its_run_rebuilds_it(name, tmp_path):
    scans = [make_patient(seed, shape=(8, 64, 64))[0] for seed in range(5)]
    normalize = "unit" if name == "masked-pixels" else "volume"
    settings = core.PretrainSettings(
        preprocessing=core.Preprocessing(normalize=normalize),
        network=core.Network.preset("tiny"),
        training=core.Training(steps=24, batch_size=8, learning_rate=3e-3, validate_every=6),
        validation_share=0.2,
    )
    task = make_task(name, (64, 64))
    runs = [
        core.pretrain(scans, task, out=tmp_path / str(number), settings=settings, device="cpu")
        for number in range(2)
    ]
    losses = [row["validation_loss"] for row in runs[0].metrics() if "validation_loss" in row]
    assert losses[-1] < 0.95 * losses[0]
    weights, again = (load_weights(run.weights) for run in runs)
    assert all(tensor.equal(again[key]) for key, tensor in weights.items())
    reopened = Run.open(tmp_path / "0")
    assert reopened.task() == task
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        shown = preview_scan(scans[0], init=reopened)
    assert shown.restored is not None
    assert np.isfinite(shown.restored).all()
