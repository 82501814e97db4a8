"""Fine-tuning strategies: learning rates by hand, frozen weights, and exact resuming."""

import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from napari_sslseg import core
from napari_sslseg.cli.app import app
from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Message, Step, StopFlag, return_value
from napari_sslseg.core.common.settings_base import make_settings
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.networks.reconstruction import with_branch
from napari_sslseg.core.runs.run import Run, RunWriter
from napari_sslseg.core.runs.states.state_files import newest_state
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.layer_plans import make_layer_plan, sawtooth
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.schedules import Schedule, learning_rate_factor, make_optimizer
from napari_sslseg.core.training.train import train

NETWORK = core.UmapathyNetwork(widths=(4, 8, 16))
DENSE = core.Dense3dNetwork(layers=(1, 2, 1), growth=(4, 4, 4), decoder_widths=(8, 4))
STEPS = 20
RATE = 0.01
KINDS = {
    "adam": {"weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-3, "weight_decay": 0.1},
}


pytestmark = pytest.mark.usefixtures("one_thread")


def plan_of(strategy, model, network=NETWORK, steps=STEPS, **fields):
    """Plan of a fine-tuning, for a model with all weights pretrained."""
    settings = core.FinetuneSettings(
        strategy=strategy, network=network, training=core.Training(steps=steps), **fields
    )
    return return_value(
        make_layer_plan(settings, model, {"transfer": {"copied": list(model.state_dict())}})
    )


def make_job(strategy, network=NETWORK, fields=None, **training):
    options = {"steps": STEPS, "batch_size": 2, "learning_rate": RATE} | training
    settings = core.Training(validate_every=4, seed=5, **options)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 16, 16, generator=generator)
    truth = torch.randint(0, 2, (6, 16, 16), generator=generator)

    def loss(model, indices, generator):
        batch = images[indices]
        noise = 0.1 * torch.randn(batch.shape, generator=generator)
        return functional.cross_entropy(model(batch + noise), truth[indices])

    def validate(model):
        return {"loss": float(functional.cross_entropy(model(images), truth))}

    torch.manual_seed(settings.seed)
    model = make_network(network, 1, 2)
    return TrainingJob(
        model=model,
        settings=settings,
        batches=shuffled_batches(np.arange(6), 2),
        steps_per_epoch=3,
        loss=loss,
        validate=validate,
        plan=plan_of(strategy, model, network, settings.steps, **fields or {}),
    )


def run(job, folder, state=None, stop=None, after=None, seen=None):
    if state is None:
        writer = RunWriter(folder, {"kind": "finetune", "settings": {}})
    else:
        writer = RunWriter.resumed(Run.open(folder), state.numbers["rows"])
    events = []
    for event in train(job, writer, make_fabric("cpu"), stop, None, state):
        events.append(event)
        if isinstance(event, Step):
            if seen is not None:
                seen(event.step)
            if event.step == after:
                stop.set()
    return events


def rates(job, folder):
    return [event.learning_rate for event in run(job, folder) if isinstance(event, Step)]


def messages_of(events):
    return [event.text for event in events if isinstance(event, Message)]


def copy_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


class TestRates:
    def test_whole_is_the_schedule(self, tmp_path):
        job = make_job("whole")
        assert job.plan is None
        expected = [RATE * learning_rate_factor(job.settings, step, 3) for step in range(STEPS)]
        assert rates(job, tmp_path) == pytest.approx(expected)

    def test_sawtooth_by_hand(self, tmp_path):
        first = [1 / 3, 2 / 3, 1, 0.5**0.9]
        rise = [1 / 5, 2 / 5, 3 / 5, 4 / 5]
        fall = [(1 - i / 12) ** 0.9 for i in range(12)]
        job = make_job("sawtooth", fields={"frozen_share": 0.2}, schedule="plateau")
        assert rates(job, tmp_path) == pytest.approx(RATE * np.array([*first, *rise, *fall]))

    def test_a_sawtooth_of_few_steps_stays_above_zero(self):
        for steps in range(1, 12):
            for tooth in range(steps):
                values = [sawtooth(step, tooth, steps) for step in range(steps)]
                assert all(0 < value <= 1 for value in values)

    @pytest.mark.parametrize("strategy", ["freeze-unfreeze", "frozen-encoder"])
    def test_a_freeze_does_not_change_the_schedule(self, tmp_path, strategy):
        job = make_job(strategy, schedule="step-decay")
        # Epochs of three steps: a drop after the first, and after every second one.
        drops = [(1 + step // 3) // 2 for step in range(STEPS)]
        assert rates(job, tmp_path) == pytest.approx([RATE * 0.9**n for n in drops])

    def test_layer_decay_reports_the_rate_of_the_head(self, tmp_path):
        job = make_job("layer-decay", fields={"layer_decay": 0.5}, schedule="constant")
        assert rates(job, tmp_path) == [RATE] * STEPS

    @pytest.mark.parametrize(
        ("network", "levels"),
        [
            (NETWORK, {"levels.2": 1, "levels.1": 2, "levels.0": 3}),
            (core.Network.preset("tiny"), {"levels.2": 1, "levels.1": 2, "levels.0": 3}),
            (core.MultiMixNetwork(widths=(4, 8)), {"levels.1": 1, "levels.0": 2}),
            (
                core.DynUNet2dNetwork(widths=(4, 8, 8)),
                {"levels.2": 1, "levels.1": 2, "levels.0": 3},
            ),
            (
                DENSE,
                {"blocks.2": 1, "blocks.1": 2, "transitions.1": 2}
                | dict.fromkeys(("blocks.0", "transitions.0", "stem"), 3),
            ),
        ],
        ids=lambda value: getattr(value, "kind", ""),
    )
    def test_layer_decay_by_level(self, network, levels):
        model = make_network(network, 1, 2)
        trained = with_branch(model, network, 1, 0.1) if network is DENSE else model
        plan = plan_of("layer-decay", model, network, layer_decay=0.5)
        settings = core.Training(learning_rate=RATE, schedule="constant")
        optimizer = make_optimizer(trained, settings, plan)
        found = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
        assert optimizer.param_groups[0]["lr"] == RATE
        names = {id(p): name for name, p in model.named_parameters()}
        for parameter in trained.parameters():
            name = names.get(id(parameter), "reconstruction")
            start = next((s for s in levels if name.startswith(f"encoder.{s}.")), None)
            assert (start is None) == (not name.startswith("encoder.")), name
            assert found[id(parameter)] == pytest.approx(RATE * 0.5 ** levels.get(start, 0)), name

    def test_groups_follow_schedules_and_plateaus_together(self):
        model = make_network(NETWORK, 1, 2)
        plan = plan_of("layer-decay", model, layer_decay=0.5)
        for kind, factor in (("plateau", 0.5), ("warmup-poly", 1 / 6)):
            settings = core.Training(
                schedule=kind, learning_rate=RATE, plateau_patience=0, steps=100
            )
            optimizer = make_optimizer(model, settings, plan)
            schedule = Schedule(optimizer, settings, 3, "lower", plan.factor)
            for value in (1.0, 2.0):
                schedule.validated(value)
            found = [group["lr"] for group in optimizer.param_groups]
            assert found == pytest.approx([RATE * factor * 0.5**n for n in range(4)])
            other = make_optimizer(model, settings, plan)
            later = Schedule(other, settings, 3, "lower", plan.factor)
            other.load_state_dict(optimizer.state_dict())
            later.load_state_dict(schedule.state_dict())
            for each in (schedule, later):
                each.step()
                each.validated(3.0)
            assert [g["lr"] for g in other.param_groups] == [
                g["lr"] for g in optimizer.param_groups
            ]


class TestFrozen:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("strategy", ["sawtooth", "freeze-unfreeze"])
    def test_no_bit_changes_during_the_freeze(self, tmp_path, strategy, kind):
        job = make_job(strategy, fields={"frozen_share": 0.3}, **KINDS[kind])
        encoder, before = job.model.encoder, copy_of(job.model)
        until, moments = 6, {}

        def seen(step):
            frozen = step <= until
            here = copy_of(encoder)
            assert all(p.requires_grad != frozen for p in encoder.parameters())
            # Also after the validation of step 4.
            assert all(module.training != frozen for module in encoder.modules())
            assert job.model.decoder.training
            if frozen:
                assert all(p.grad is None for p in encoder.parameters())
                for name, tensor in here.items():
                    assert torch.equal(tensor, before[f"encoder.{name}"]), (step, name)
            moments[step] = here

        events = run(job, tmp_path, seen=seen)
        texts = [text for text in messages_of(events) if "encoder" in text]
        (text,) = texts
        assert f"step {until + 1} " in text
        place = next(i for i, e in enumerate(events) if isinstance(e, Message) and "From" in e.text)
        assert sum(isinstance(event, Step) for event in events[:place]) == until
        # Both weights and running averages, from the first step after the freeze.
        first = moments[until + 1]
        assert all(not torch.equal(t, before[f"encoder.{name}"]) for name, t in first.items())

    def test_other_layers_are_trained_during_the_freeze(self, tmp_path):
        job = make_job("frozen-encoder", **KINDS["sgd"])
        before = copy_of(job.model)
        run(job, tmp_path)
        for name, tensor in job.model.state_dict().items():
            assert torch.equal(tensor, before[name]) == name.startswith("encoder."), name

    def test_the_frozen_encoder_has_no_dropout(self):
        model = make_network(core.MultiMixNetwork(widths=(4, 8), dropout=0.5), 1, 2)
        image = torch.randn(1, 1, 16, 16)
        model.train()
        assert not torch.equal(model.encoder(image)[-1], model.encoder(image)[-1])
        model.encoder.freeze()
        model.train()
        assert torch.equal(model.encoder(image)[-1], model.encoder(image)[-1])
        model.encoder.freeze(False)
        model.train()
        assert not torch.equal(model.encoder(image)[-1], model.encoder(image)[-1])

    def test_a_freeze_works_with_batches_in_parts(self, tmp_path):
        job = make_job("freeze-unfreeze")
        before = copy_of(job.model.encoder)
        writer = RunWriter(tmp_path, {"kind": "finetune", "settings": {}})
        for event in train(job, writer, make_fabric("cpu"), parts=2):
            if isinstance(event, Step) and event.step == 6:
                assert all(torch.equal(t, before[n]) for n, t in copy_of(job.model.encoder).items())
        moved = copy_of(job.model.encoder)
        assert all(not torch.equal(tensor, before[name]) for name, tensor in moved.items())


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("sawtooth", "adam"),
        ("freeze-unfreeze", "sgd"),
        ("layer-decay", "adam"),
        pytest.param("sawtooth", "sgd", marks=pytest.mark.slow),
        pytest.param("freeze-unfreeze", "adam", marks=pytest.mark.slow),
        pytest.param("layer-decay", "sgd", marks=pytest.mark.slow),
    ],
)
def test_resuming_gives_the_same_weights(tmp_path, strategy, kind):
    """The training is stopped during the freeze, at its end, one step later, and later."""
    fields = {} if strategy == "layer-decay" else {"frozen_share": 0.3}
    whole = run(make_job(strategy, fields=fields, **KINDS[kind]), tmp_path / "whole")
    for after in (3, 6, 7, 13):
        folder, stop = tmp_path / str(after), StopFlag()
        first = run(
            make_job(strategy, fields=fields, **KINDS[kind]), folder, stop=stop, after=after
        )
        torch.manual_seed(77)  # Another random state, as in a new process.
        job = make_job(strategy, fields=fields, **KINDS[kind])
        torch.rand(13)
        second = run(job, folder, state=return_value(newest_state(folder)))
        for name in ("metrics.csv", "best.safetensors", "last.safetensors"):
            one, two = ((tmp_path / one / name).read_bytes() for one in ("whole", str(after)))
            assert one == two, (after, name)
        assert messages_of(first) + messages_of(second) == messages_of(whole)


def bright_box(seed):
    rng = np.random.default_rng(seed)
    data, labels = rng.normal(100, 20, (20, 18, 6)), np.zeros((20, 18, 6), np.uint8)
    data[5:12, 6:13, 1:5] += 200
    labels[5:12, 6:13, 1:5] = 7
    return data.astype(np.float32), labels


def labelled(*seeds):
    geometry = Geometry(np.diag([1.0, 1, 3, 1]), (20, 18, 6))
    found = []
    for seed in seeds:
        scan, labels = (
            Volume(geometry.to_display(array), geometry, "MR", f"case{seed}", f"case{seed}")
            for array in bright_box(seed)
        )
        found.append(core.LabelledScan(scan, labels))
    return found


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return core.pretrain(
        [item.scan for item in labelled(1, 2, 3)],
        core.ContextRestoration(patch_size=4),
        out=tmp_path_factory.mktemp("pre"),
        settings=core.PretrainSettings(
            network=NETWORK, training=core.Training(steps=3, batch_size=4)
        ),
        device="cpu",
    )


def finetune(out, init, stop_after=None, resume=False, **fields):
    """The run and its messages."""
    training = {"steps": 10, "batch_size": 4} | fields.pop("training", {})
    if init == "scratch":
        fields["network"] = NETWORK
    settings = core.FinetuneSettings(training=core.Training(**training), **fields)
    stop, found = StopFlag(), []
    options = {"resume": True} if resume else {"init": init, "settings": settings}
    for event in core.iter_finetune(labelled(4, 5), out=out, stop=stop, device="cpu", **options):
        found.append(event)
        if isinstance(event, Step) and event.step == stop_after:
            stop.set()
    return found[-1].result, messages_of(found)


class TestFinetuning:
    def test_a_frozen_encoder_equals_that_of_the_pretraining(self, tmp_path, pretrained):
        run, texts = finetune(tmp_path, pretrained, strategy="frozen-encoder")
        assert any("encoder" in text and "throughout" in text for text in texts)
        assert run.record["settings"]["strategy"] == "frozen-encoder"
        before, after = load_weights(pretrained.weights), load_weights(run.weights)
        for name, tensor in after.items():
            if name.startswith("encoder."):
                assert torch.equal(tensor, before[name]), name

    @pytest.mark.parametrize("transfer", ["encoder", "encoder+decoder"])
    def test_the_decoder_is_trained_from_the_first_step(self, tmp_path, pretrained, transfer):
        run, texts = finetune(
            tmp_path, pretrained, stop_after=1, strategy="sawtooth", transfer=transfer
        )
        assert any("encoder" in text and "1 of 10 steps" in text for text in texts)
        before, after = (
            load_weights(pretrained.weights),
            load_weights(run.folder / "last.safetensors"),
        )
        for name, tensor in after.items():
            same = name in before and torch.equal(tensor, before[name])
            assert same == name.startswith("encoder."), name

    def test_it_resumes_with_its_recorded_strategy(self, tmp_path, pretrained):
        fields = {"strategy": "freeze-unfreeze", "frozen_share": 0.4}
        whole, _ = finetune(tmp_path / "whole", pretrained, **fields)
        finetune(tmp_path / "cut", pretrained, stop_after=2, **fields)
        run, texts = finetune(tmp_path / "cut", None, resume=True)
        assert any("From step 5 " in text and "encoder" in text for text in texts)
        one, two = (load_weights(found.weights) for found in (whole, run))
        assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())

    @pytest.mark.parametrize("strategy", ["sawtooth", "freeze-unfreeze", "layer-decay"])
    def test_from_scratch_all_layers_are_trained(self, tmp_path, strategy):
        fields = {"layer_decay": 0.5} if strategy == "layer-decay" else {"frozen_share": 0.2}
        run, texts = finetune(tmp_path / "run", "scratch", strategy=strategy, **fields)
        assert sum(f"strategy {strategy} " in text for text in texts) == 1
        assert run.settings(core.FinetuneSettings).strategy == "whole"
        plain, texts = finetune(tmp_path / "plain", "scratch")
        assert not any("strategy" in text for text in texts)
        assert run.weights.read_bytes() == plain.weights.read_bytes()

    def test_from_scratch_a_frozen_encoder_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="start from a pretraining"):
            finetune(tmp_path / "run", "scratch", strategy="frozen-encoder")
        assert not (tmp_path / "run" / "run.json").exists()

    def test_a_sawtooth_reports_that_it_replaces_a_schedule(self, tmp_path, pretrained):
        training = {"schedule": "plateau"}
        _, texts = finetune(tmp_path / "a", pretrained, strategy="sawtooth", training=training)
        assert sum("the schedule plateau" in text for text in texts) == 1
        # Otherwise a message would say that a plateau needs a validation.
        assert not any("no validation" in text for text in texts)
        _, texts = finetune(tmp_path / "b", pretrained, strategy="sawtooth")
        assert not any("schedule" in text for text in texts)

    def test_random_tensors_in_a_frozen_encoder_are_reported(self, tmp_path, pretrained):
        from safetensors.torch import save_file

        shutil.copytree(pretrained.folder, tmp_path / "pre")
        part = Run.open(tmp_path / "pre")
        weights = load_weights(part.weights)
        del weights["encoder.levels.0.0.weight"]
        save_file(weights, part.weights)
        _, texts = finetune(tmp_path / "run", part, strategy="freeze-unfreeze")
        assert any("encoder.levels.0.0.weight" in text for text in texts)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": "whole", "frozen_share": 0.2}, "The strategy whole has no frozen_share"),
        ({"strategy": "frozen-encoder", "frozen_share": 0.2}, "has no frozen_share"),
        ({"strategy": "sawtooth", "frozen_share": 0.5}, "below 0.5, not to 0.5"),
        ({"strategy": "sawtooth", "layer_decay": 0.5}, "has no layer_decay"),
        ({"strategy": "layer-decay", "layer_decay": 0}, "layer_decay cannot be 0"),
        ({"strategy": "freeze-unfreeze", "frozen_share": 1}, "frozen_share cannot be 1"),
        ({"strategy": "sawtoth"}, "strategy cannot be 'sawtoth'.*'sawtooth'"),
    ],
)
def test_invalid_settings_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        make_settings(core.FinetuneSettings, **fields)


def test_recorded_settings_are_read_back():
    for strategy in ("whole", "sawtooth", "freeze-unfreeze", "layer-decay", "frozen-encoder"):
        settings = core.FinetuneSettings(strategy=strategy)
        assert core.FinetuneSettings(**settings.model_dump(mode="json")) == settings


def test_the_command_line(tmp_path, pretrained):
    for number in (4, 5):
        for kind, array in zip(("images", "labels"), bright_box(number), strict=True):
            (tmp_path / kind).mkdir(exist_ok=True)
            image = nib.Nifti1Image(array, np.diag([1.0, 1, 3, 1]))
            nib.save(image, tmp_path / kind / f"case{number}.nii.gz")
    command = ["finetune", "--images", tmp_path / "images", "--labels", tmp_path / "labels"]
    command += ["--init", pretrained.folder, "--steps", 3, "--batch-size", 2, "--device", "cpu"]

    def invoke(*options):
        return CliRunner().invoke(app, [str(part) for part in (*command, *options)])

    done = invoke("--strategy", "layer-decay", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert Run.open(tmp_path / "run").record["settings"]["strategy"] == "layer-decay"
    wrong = invoke("--strategy", "gently", "--out", tmp_path / "other")
    assert wrong.exit_code != 0
    assert isinstance(wrong.exception, ConfigError)
    assert "strategy cannot be 'gently'" in str(wrong.exception)
