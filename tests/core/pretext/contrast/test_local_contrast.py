"""Local contrastive learning: frozen and trained parts, and transfer to a fine-tuning."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from napari_sslseg import core
from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.events import Message, Validation
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.contrast.losses import local_contrast
from napari_sslseg.core.pretext.contrast.views import apply_view
from napari_sslseg.core.pretext.pictures.preview import preview
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.runs.weights.checkpoints import load_weights, transfer
from napari_sslseg.core.settings.networks import DynUNet2dNetwork, MultiMixNetwork, UmapathyNetwork
from napari_sslseg.core.settings.pretext.registry import TaskSettings, describe, make_task
from napari_sslseg.core.stages.pretrain import iter_pretrain
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.train import train

SIZE = (32, 48)
TINY = core.Network.preset("tiny")
SMALL_UMAPATHY = UmapathyNetwork(widths=(4, 8, 8, 8))


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n=4, seed=0, size=SIZE):
    return torch.randn(n, 1, *size, generator=torch.Generator().manual_seed(seed))


def model_of(task, network=TINY):
    torch.manual_seed(0)
    return task.wrap(make_network(network, 1, 1))


def draw(task, n=4, seed=1):
    return task.sample(n, torch.Generator().manual_seed(seed))


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture(scope="module")
def scans():
    return [make_patient(number, shape=(8, 64, 64))[0] for number in range(5)]


def schedule(steps=8, **options):
    return core.Training(steps=steps, batch_size=8, learning_rate=3e-3, validate_every=4, **options)


@pytest.fixture(scope="module")
def started(scans, tmp_path_factory):
    """A run of global contrast, with a network that has running statistics."""
    return core.pretrain(
        scans,
        core.GlobalContrast(hidden=16, embedding=8),
        out=tmp_path_factory.mktemp("global") / "global",
        settings=core.PretrainSettings(
            network=SMALL_UMAPATHY, training=schedule(), validation_share=0.2
        ),
        device="cpu",
    )


# --- the model


def test_the_loss_compares_the_regions_of_both_views():
    task = core.LocalContrast(embedding=8).build(SIZE)
    model, batch, parameters = model_of(task), images(), draw(task)
    model.eval()
    first, second = (
        model(apply_view(batch, view), parameters.regions.points(view))
        for view in (parameters.first, parameters.second)
    )
    assert first.shape == (4, 13, 8)
    torch.testing.assert_close(
        task.loss(model, batch, parameters),
        local_contrast(first, second, parameters.regions.negatives, 0.1),
    )


def test_the_embedding_of_a_region_is_the_head_of_its_features():
    """Regions on whole places: the embedding is the head of a window of the decoder's features."""
    task = core.LocalContrast(embedding=8, level=1).build((48, 64))
    model, batch, parameters = model_of(task).eval(), images(2, size=(48, 64)), draw(task, 2)
    embeddings = model(batch, parameters.regions.points(parameters.first))
    decoded = model.head(model.decoder(model.encoder(batch)[-2:]))
    assert decoded.shape[2:] == (24, 32)
    begin = (parameters.regions.corner * torch.tensor([24, 32])).round().long()
    for n in range(2):
        for r in range(13):
            row, column = begin[n, r].tolist()
            window = decoded[n, :, row : row + 3, column : column + 3]
            expected = model.projection(window.permute(1, 2, 0).flatten())
            torch.testing.assert_close(embeddings[n, r], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_levels_that_are_not_trained_are_not_built(level):
    plain = make_network(TINY, 1, 1)
    model = core.LocalContrast(level=level).build((96, 96)).wrap(plain)
    kept = min(level, 2)
    assert set(model.encoder.state_dict()) == set(plain.encoder.state_dict())
    assert set(model.decoder.state_dict()) == {
        name for name in plain.decoder.state_dict() if int(name.split(".")[1]) < kept
    }
    assert not any(name.startswith("output.") for name in model.state_dict())
    assert all(
        tensor is plain.state_dict(keep_vars=True)[name]
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name.startswith(("encoder.", "decoder."))
    )


@pytest.mark.parametrize(
    "network",
    [
        TINY,
        SMALL_UMAPATHY,
        MultiMixNetwork(widths=(4, 8, 8, 8)),
        DynUNet2dNetwork(widths=(4, 8, 8, 8)),
    ],
    ids=lambda network: network.kind,
)
@pytest.mark.parametrize("regions", ["random", "grid"])
def test_only_the_decoder_gets_a_gradient(network, regions):
    # 60 × 44 is not a multiple of the stride, so the last rows are repeated.
    task = core.LocalContrast(regions=regions, embedding=8, level=2).build((60, 44))
    model = model_of(task, network).train()
    task.loss(model, images(2, size=(60, 44)), draw(task, 2)).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            assert parameter.grad is None, name
        else:
            assert torch.isfinite(parameter.grad).all(), name
            if name.startswith("decoder.") and name.endswith("weight"):
                assert parameter.grad.abs().sum() > 0, name


def test_an_encoder_that_is_not_frozen_is_trained():
    task = core.LocalContrast(freeze_encoder=False, embedding=8).build(SIZE)
    model = model_of(task).train()
    assert model.encoder.training
    task.loss(model, images(), draw(task)).backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_a_frozen_encoder_stays_in_evaluation_mode():
    model = model_of(core.LocalContrast().build((64, 64)), MultiMixNetwork(widths=(4, 8, 8, 8)))
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for module in model.encoder.modules())
        assert model.decoder.training is mode
    # Without dropout, the same slices give the same features.
    batch = images(2, size=(64, 64))
    torch.testing.assert_close(model.encoder(batch)[-1], model.encoder(batch)[-1])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_changes_all_but_the_encoder(tmp_path, precision):
    """Bit for bit: neither weight decay nor batches may touch weights or running statistics."""
    settings = core.Training(steps=3, batch_size=2, weight_decay=0.1, precision=precision)
    task = core.LocalContrast(embedding=8, level=2).build(SIZE)
    model, batch = model_of(task, SMALL_UMAPATHY), images(6)
    before = state(model)
    job = TrainingJob(
        model=model,
        settings=settings,
        batches=shuffled_batches(np.arange(6), 2),
        steps_per_epoch=3,
        loss=lambda model, indices, generator: task.loss(
            model, batch[indices], task.sample(len(indices), generator)
        ),
        validate=lambda model: task.metrics(model, batch, draw(task, 6)) | {"loss": 0.0},
    )
    writer = RunWriter(tmp_path, {"kind": "pretrain", "settings": {}})
    list(train(job, writer, make_fabric("cpu", precision)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) is name.startswith("encoder."), name


def test_half_precision_moves_no_region():
    """Within autocast, as in the training, the loss is finite and nearly the same."""
    task = core.LocalContrast(least_area=0.4, embedding=8, level=2).build((64, 48))
    model, batch, parameters = model_of(task).train(), images(size=(64, 48)), draw(task)
    exact = task.loss(model, batch, parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task.loss(model, batch, parameters)
        views = apply_view(batch, parameters.first)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    torch.testing.assert_close(views, apply_view(batch, parameters.first))
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)


def test_the_same_seed_draws_the_same_regions():
    task = core.LocalContrast(least_area=0.5).build(SIZE)
    model = model_of(task).eval()
    losses = [task.loss(model, images(), draw(task, seed=seed)).item() for seed in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]


def test_metrics_show_a_collapse():
    task = core.LocalContrast(intensity=0.0, embedding=8).build(SIZE)
    model, parameters = model_of(task).eval(), draw(task)
    healthy = task.metrics(model, images(), parameters)
    assert healthy["similarity of positives"] == pytest.approx(1, abs=1e-4)
    assert healthy["similarity of negatives"] < 0.99
    assert healthy["spread"] > 0.05
    with torch.no_grad():
        model.projection.weight.zero_()
        model.projection.bias.fill_(1.0)
    collapsed = task.metrics(model, images(), parameters)
    assert collapsed["spread"] == pytest.approx(0, abs=1e-4)
    assert collapsed["similarity of negatives"] == pytest.approx(1, abs=1e-4)


# --- settings and errors


def test_settings_survive_json_and_have_a_description():
    settings = make_task("local-contrast", SIZE, level=2)
    assert TypeAdapter(TaskSettings).validate_json(settings.model_dump_json()) == settings
    assert describe(settings) == "local-contrast, 13 random regions, decoder level 2"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 5, "negatives": 5}, "at most 4 negatives"),
        ({"regions": "grid", "count": 9}, "13 regions with 5 negatives"),
        ({"level": 0}, "level"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason(options, words):
    with pytest.raises(ConfigError, match=f"(?i){words}"):
        core.LocalContrast(**options)
    with pytest.raises(ConfigError):
        make_task("local-contrast", SIZE, **options)


def test_too_small_features_are_refused_when_the_network_is_known():
    task = core.LocalContrast(level=1).build(SIZE)
    with pytest.raises(ConfigError, match=r"13 regions.* 8 × 12"):
        model_of(task, SMALL_UMAPATHY)


def test_a_frozen_random_encoder_is_refused_before_scans_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"local-contrast.*global-contrast.*--init"):
        core.pretrain(tmp_path / "nowhere", core.LocalContrast(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_trained_random_encoder_causes_a_message(scans, tmp_path):
    task = core.LocalContrast(freeze_encoder=False, embedding=8)
    settings = core.PretrainSettings(network=TINY, training=schedule(2), validation_share=0)
    events = list(iter_pretrain(scans[:1], task, out=tmp_path, settings=settings, device="cpu"))
    assert "encoder is random" in next(e.text for e in events if isinstance(e, Message))
    assert core.Run.open(tmp_path).record["init"] == "scratch"


# --- training


def test_global_then_local_then_fine_tuning(scans, started, tmp_path):
    task = core.LocalContrast(level=2, embedding=16)
    options = core.PretrainSettings(training=schedule(12, weight_decay=0.1), validation_share=0.2)
    events = list(
        iter_pretrain(
            scans, task, init=started, out=tmp_path / "local", settings=options, device="cpu"
        )
    )
    assert any(isinstance(e, Message) and e.text.startswith("Start from global: ") for e in events)
    figures = [event.metrics for event in events if isinstance(event, Validation)]
    assert figures[-1]["loss"] < figures[0]["loss"]
    assert 0 < figures[-1]["spread"] <= 1

    run = core.Run.open(tmp_path / "local")
    settings = run.settings(core.PretrainSettings)
    assert settings.network == SMALL_UMAPATHY
    assert run.record["init"] == "global"
    before, after = load_weights(started.weights), load_weights(run.folder / "last.safetensors")
    encoder = {name for name in before if name.startswith("encoder.")}
    assert any("running_var" in name for name in encoder)
    assert encoder == {name for name in after if name.startswith("encoder.")}
    assert encoder == set(run.record["transfer"]["copied"])
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    decoder = {name for name in after if name.startswith("decoder.")}
    assert {name.split(".")[2] for name in decoder} == {"0", "1"}

    labelled = [core.LabelledScan(*make_patient(n, shape=(8, 64, 64))) for n in range(2)]
    tuned = core.finetune(
        labelled,
        init=run,
        out=tmp_path / "ft",
        settings=core.FinetuneSettings(
            training=core.Training(steps=2, batch_size=4), transfer="encoder+decoder"
        ),
        device="cpu",
    )
    report = tuned.record["transfer"]
    assert set(report["copied"]) == encoder | decoder
    kept = {item["name"] for item in report["skipped"] if "random" in item["reason"]}
    assert any(name.startswith("decoder.levels.2.") for name in kept)


def test_transfer_copies_only_the_trained_levels_of_the_decoder():
    task = core.LocalContrast(level=2).build((64, 64))
    model, plain = model_of(task, SMALL_UMAPATHY), make_network(SMALL_UMAPATHY, 1, 3)
    before = state(plain)
    report = transfer(model.state_dict(), plain, "encoder+decoder")
    for name, tensor in plain.state_dict().items():
        trained = name.startswith(("encoder.", "decoder.levels.0.", "decoder.levels.1."))
        assert (name in report.copied) is trained
        assert torch.equal(tensor, model.state_dict()[name] if trained else before[name])


def test_the_same_seed_gives_the_same_weights(scans, started, tmp_path):
    weights = []
    for number in range(2):
        run = core.pretrain(
            scans[:2],
            core.LocalContrast(regions="grid", least_area=0.5, embedding=8),
            init=started.folder,
            out=tmp_path / str(number),
            settings=core.PretrainSettings(training=schedule(3, precision="bf16-mixed")),
            device="cpu",
        )
        weights.append(load_weights(run.weights))
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights[0].values())


def test_a_preview_shows_regions_and_their_similarities(scans, started, tmp_path):
    run = core.pretrain(
        scans[:2],
        core.LocalContrast(least_area=0.5, embedding=8),
        init=started,
        out=tmp_path / "local",
        settings=core.PretrainSettings(training=schedule(2)),
        device="cpu",
    )
    shown = preview(scans[0], init=run, slices=2)
    n, _, height, width = shown.original.shape
    assert set(shown.boxes) == {"partner", "corrupted"}
    for name, boxes in shown.boxes.items():
        assert boxes.shape == (n, 13, 4)
        assert (boxes[..., :2] >= -1e-3).all()
        assert (boxes[..., 0] + boxes[..., 2] <= height + 1e-3).all()
        assert (boxes[..., 1] + boxes[..., 3] <= width + 1e-3).all()
        # Umapathy's network has 4 levels here, so the last of 3 is at full resolution.
        assert (boxes[..., 2:] >= 3 - 1e-3).all()
        assert getattr(shown, name).shape == shown.original.shape
    assert shown.matrix.shape == (13, 13)
    assert np.abs(shown.matrix).max() <= 1 + 1e-5
    assert shown.matrix_title
    assert shown.matrix_labels == tuple(map(str, range(1, 14)))
    bare = preview(scans[0], task="local-contrast", slices=1)
    assert bare.matrix is None
    assert (bare.boxes["partner"] == bare.boxes["corrupted"]).all()


# --- starting from an earlier run


def test_any_pretraining_can_start_another(scans, started, tmp_path):
    run = core.pretrain(
        scans[:2],
        core.MaskedPatches(patch_size=16),
        init=started.folder,
        out=tmp_path / "mae",
        settings=core.PretrainSettings(training=schedule(1)),
        device="cpu",
    )
    copied = run.record["transfer"]["copied"]
    assert {name.split(".")[0] for name in copied} == {"encoder"}
    again = core.pretrain(
        scans[:2],
        core.MaskedPatches(patch_size=16),
        init=run,
        out=tmp_path / "again",
        settings=core.PretrainSettings(training=schedule(1)),
        device="cpu",
    )
    parts = {name.split(".")[0] for name in again.record["transfer"]["copied"]}
    assert parts == {"encoder", "decoder"}


def test_invalid_starts_are_refused(scans, started, tmp_path):
    task = core.LocalContrast()
    with pytest.raises(CheckpointError, match="does not exist"):
        core.pretrain(scans, task, init=tmp_path / "nowhere", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="would replace"):
        core.pretrain(scans, task, init=started, out=started.folder, overwrite=True)
    with pytest.raises(ConfigError, match="The network settings differ"):
        core.pretrain(
            scans,
            task,
            init=started,
            out=tmp_path / "out",
            settings=core.PretrainSettings(network=TINY),
            device="cpu",
        )
    tuned = core.Run(started.folder, dict(started.record) | {"kind": "finetune"})
    with pytest.raises(CheckpointError, match="a pretrain run is needed"):
        core.pretrain(scans, task, init=tuned, out=tmp_path / "out")
