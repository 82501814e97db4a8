"""Global contrastive learning: positives, negatives, metrics and transfer of the encoder."""

import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Message, Validation
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.contrast.losses import nt_xent
from napari_sslseg.core.pretext.contrast.views import apply_view
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.stages.pretrain import iter_pretrain

SIZE = (32, 48)


def images(n=6, seed=0):
    return torch.randn(n, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def model_of(task):
    torch.manual_seed(0)
    return task.wrap(make_network(core.Network.preset("tiny"), 1, 1))


@pytest.fixture(scope="module")
def scans():
    return [core.make_patient(number, "MR")[0] for number in range(6)]


@pytest.fixture(scope="module")
def store(scans):
    from napari_sslseg.core.samples.build import default_preprocessing

    return core.SliceStore.build(scans[:3], default_preprocessing("MR"))


@pytest.mark.parametrize("head", ["pooled", "flat"])
def test_the_loss_compares_both_views(head):
    task = core.GlobalContrast(head=head, hidden=16, embedding=8).build(SIZE)
    model, batch = model_of(task), images()
    draw = task.sample(6, torch.Generator().manual_seed(1))
    first, second = model(apply_view(batch, draw.first)), model(apply_view(batch, draw.second))
    assert first.shape == (6, 8)
    torch.testing.assert_close(task.loss(model, batch, draw), nt_xent(first, second, 0.1))


def test_the_last_layer_of_the_head_has_no_bias():
    task = core.GlobalContrast(hidden=16, embedding=8).build(SIZE)
    names = [name for name, _ in model_of(task).named_parameters() if name.startswith("head.")]
    assert names == ["head.0.weight", "head.0.bias", "head.2.weight"]


def test_parts_are_quarters_of_each_scan(store):
    task = core.GlobalContrast(parts=4).build(store.size)
    task.set_store(store)
    slices = np.arange(len(store))
    draw = task.sample_slices(slices, torch.Generator().manual_seed(0))
    for number, scan in enumerate(store.scans):
        part = draw.part[scan.start : scan.start + scan.n_slices]
        expected = [4 * place // scan.n_slices for place in range(scan.n_slices)]
        assert part.tolist() == expected
        assert (draw.scan[scan.start : scan.start + scan.n_slices] == number).all()


def test_slices_of_one_part_are_not_negatives():
    """If all slices are of one part there are no negatives."""
    task = core.GlobalContrast(negatives="other-parts", hidden=8, embedding=4).build(SIZE)
    draw = task.sample(6, torch.Generator().manual_seed(1))
    assert task.loss(model_of(task), images(), draw).item() == 0


def test_a_batch_of_one_slice_is_refused():
    task = core.GlobalContrast(hidden=8, embedding=4).build(SIZE)
    draw = task.sample(1, torch.Generator().manual_seed(1))
    with pytest.raises(ConfigError, match="at least 2"):
        task.loss(model_of(task), images(1), draw)


def test_metrics_show_a_collapse():
    still = core.GlobalContrast(hidden=16, embedding=8, least_area=1.0, intensity=0.0)
    task = still.build(SIZE)
    model = model_of(task)
    draw = task.sample(6, torch.Generator().manual_seed(1))
    healthy = task.metrics(model, images(), draw)
    assert healthy["similarity of positives"] == pytest.approx(1, abs=1e-4)
    assert healthy["similarity of negatives"] < 0.99
    assert healthy["spread"] > 0.1
    with torch.no_grad():
        model.head[0].weight.zero_()
        model.head[0].bias.fill_(1.0)
    collapsed = task.metrics(model, images(), draw)
    assert collapsed["spread"] == pytest.approx(0, abs=1e-4)
    assert collapsed["similarity of negatives"] == pytest.approx(1, abs=1e-4)


def test_the_same_seed_draws_the_same_views():
    task = core.GlobalContrast().build(SIZE)
    one, two = (task.sample(4, torch.Generator().manual_seed(5)) for _ in range(2))
    torch.testing.assert_close(task.apply(images(4), one), task.apply(images(4), two))
    assert not torch.equal(one.first.corner, one.second.corner)


def test_pretraining_learns_and_its_encoder_is_transferred(scans, tmp_path):
    settings = core.PretrainSettings(
        network=core.Network.preset("tiny"),
        training=core.Training(steps=30, batch_size=12, learning_rate=3e-3, validate_every=10),
        validation_share=0.2,
    )
    task = core.GlobalContrast(hidden=32, embedding=16)
    events = list(iter_pretrain(scans, task, out=tmp_path / "pre", settings=settings, device="cpu"))
    figures = [event.metrics for event in events if isinstance(event, Validation)]
    assert figures[-1]["loss"] < figures[0]["loss"]
    assert 0 < figures[-1]["spread"] <= 1
    run = core.Run.open(tmp_path / "pre")
    assert run.task() == task
    weights = load_weights(run.weights)
    assert any(name.startswith("encoder.") for name in weights)
    assert not any(name.startswith(("decoder.", "output.")) for name in weights)
    labelled = [core.LabelledScan(*core.make_patient(number, "MR")) for number in range(2)]
    tuned = core.finetune(
        labelled,
        init=run,
        out=tmp_path / "ft",
        settings=core.FinetuneSettings(training=core.Training(steps=2, batch_size=4)),
        device="cpu",
    )
    assert tuned.record["init"] == "pre"


def test_a_collapsed_run_warns(scans, tmp_path):
    """A huge learning rate makes all embeddings equal."""
    settings = core.PretrainSettings(
        network=core.Network.preset("tiny"),
        training=core.Training(
            steps=12, batch_size=8, learning_rate=10.0, validate_every=3, schedule="constant"
        ),
        validation_share=0.2,
    )
    events = list(
        iter_pretrain(
            scans,
            core.GlobalContrast(hidden=8, embedding=4, temperature=10.0),
            out=tmp_path / "pre",
            settings=settings,
            device="cpu",
        )
    )
    warnings = [e.text for e in events if isinstance(e, Message) and "collapsed" in e.text]
    assert len(warnings) == 1
