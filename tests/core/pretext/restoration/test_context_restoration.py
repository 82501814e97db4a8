import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.pretext.base import PretextTask
from napari_sslseg.core.pretext.pictures.figure import preview_figure
from napari_sslseg.core.settings.pretext.context_patches import ContextRestoration


@pytest.fixture
def task() -> PretextTask:
    return ContextRestoration(patch_size=8, n_masks=5).build((64, 48))


@pytest.fixture
def images():
    return torch.randn(3, 2, 64, 48, generator=torch.Generator().manual_seed(0))


def draw(task, n=3, seed=0):
    return task.sample(n, torch.Generator().manual_seed(seed))


class Scale(nn.Module):
    """Multiplies its input by a learned factor, and records its inputs and its mode."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images):
        self.seen = images
        self.mode = self.training
        return self.factor * images


def test_settings_load_no_torch():
    code = (
        "import sys; from napari_sslseg import core; core.ContextRestoration();"
        "from napari_sslseg.core.common.example_pictures import PretextPreview;"
        "from napari_sslseg.core.pretext.pictures import figure;"
        "assert not {'torch', 'matplotlib', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_defaults_are_the_best_design_of_the_paper():
    settings = ContextRestoration()
    assert settings.model_dump() == {
        "kind": "context-restoration",
        "patch_size": 32,
        "sampling": "poisson-disc",
        "min_area": 0.25,
        "n_masks": 100,
    }
    assert ContextRestoration(**settings.model_dump(mode="json")) == settings


def test_every_setting_has_a_title_and_a_description():
    for name, field in ContextRestoration.model_fields.items():
        if name != "kind":
            assert field.title, name
            assert "Dominic et al. 2023" in field.description, name


@pytest.mark.parametrize(
    "wrong",
    [{"patch_size": 0}, {"patch_size": 513}, {"sampling": "grid"}, {"min_area": 0}, {"size": 3}],
)
def test_invalid_settings_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        ContextRestoration(**wrong)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        ContextRestoration().patch_size = 8


def test_patches_that_do_not_fit_are_refused_when_the_size_is_known():
    with pytest.raises(ConfigError, match="size of 27"):
        ContextRestoration(patch_size=32).build((64, 48))


def test_the_network_has_as_many_output_as_input_channels(task):
    assert task.output_channels(3) == 3
    assert task.name == ContextRestoration().kind


def test_the_loss_compares_the_whole_slice(task, images):
    model = Scale(0.5)
    parameters = draw(task)
    loss = task.loss(model, images, parameters)
    corrupted = task.apply(images, parameters)
    assert torch.equal(model.seen, corrupted)
    expected = sum(
        ((0.5 * corrupted[n, c] - images[n, c]) ** 2).sum() for n in range(3) for c in range(2)
    )
    torch.testing.assert_close(loss, expected / 6)
    loss.backward()
    assert model.factor.grad is not None


def test_the_seed_determines_the_masks(images):
    settings = ContextRestoration(patch_size=8, n_masks=5)
    one, same, other = (settings.build((64, 48), seed) for seed in (1, 1, 2))
    assert torch.equal(one.apply(images, draw(one)), same.apply(images, draw(same)))
    assert not torch.equal(one.apply(images, draw(one)), other.apply(images, draw(other)))


def test_the_preview_shows_the_corruption_of_the_training(task, images):
    model = Scale()
    parameters = draw(task)
    task.loss(model, images, parameters)
    seen = model.seen.clone()
    preview = task.preview(images, parameters, model)
    assert np.array_equal(preview.corrupted, seen.numpy())
    assert np.array_equal(preview.original, images.numpy())
    assert np.array_equal(preview.restored, preview.corrupted)
    assert np.array_equal(preview.error, np.abs(preview.restored - preview.original))
    assert preview.mask.dtype == bool
    assert preview.mask.shape == (3, 1, 64, 48)
    moved = (preview.corrupted != preview.original).all(axis=1, keepdims=True)
    assert np.array_equal(preview.mask, moved)
    given = {
        field.name
        for field in fields(preview)
        if isinstance(getattr(preview, field.name), np.ndarray)
    }
    assert set(preview.captions) == given


def test_the_preview_runs_in_evaluation_mode_and_restores_training_mode(task, images):
    model = Scale().train()
    task.preview(images, draw(task), model)
    assert model.mode is False
    assert model.training


def test_the_preview_contains_copies(task, images):
    preview = task.preview(images, draw(task))
    assert preview.restored is preview.error is None
    before = preview.original.copy()
    images.zero_()
    assert np.array_equal(preview.original, before)


def test_the_preview_accepts_half_precision(task, images):
    preview = task.preview(images.half(), draw(task), Scale().half())
    assert np.isfinite(preview.error).all()


@pytest.mark.parametrize(("model", "columns"), [(None, 3), (Scale(), 5)])
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_the_figure_has_slices_in_rows_and_steps_in_columns(task, images, model, columns, tmp_path):
    preview = task.preview(images, draw(task), model)
    figure = preview_figure(preview, channel=1)
    assert len(figure.axes) == 3 * columns
    titles = [axis.get_title() for axis in figure.axes[:columns]]
    assert titles == list(preview.captions.values())[:columns]
    figure.savefig(tmp_path / "preview.png")
    extent = figure.get_window_extent()
    for axis in figure.axes[:columns]:
        box = axis.title.get_window_extent()
        assert extent.x0 <= box.x0
        assert box.x1 <= extent.x1
        assert box.y1 <= extent.y1


def test_an_empty_slice_can_be_drawn(task):
    preview = task.preview(torch.zeros(1, 1, 64, 48), draw(task, 1), Scale())
    preview_figure(preview).canvas.draw()


def test_outlines_run_along_the_edges_of_the_replaced_pixels(task, images):
    preview = task.preview(images[:1], draw(task, 1))
    lines = preview_figure(preview).axes[1].collections[0].get_segments()
    mask = np.pad(preview.mask[0, 0], 1).astype(int)
    edges = np.abs(np.diff(mask, axis=0)).sum() + np.abs(np.diff(mask, axis=1)).sum()
    assert len(lines) == edges
    for start, end in lines:
        middle, along = (start + end) / 2, end - start
        # Each edge separates a replaced and an unchanged pixel.
        step = 0.5 * np.array([along[1], along[0]])
        column, row = np.array([middle - step, middle + step]).round().astype(int).T
        assert mask[row + 1, column + 1].sum() == 1
