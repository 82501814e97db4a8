"""A batch that exceeds the memory is processed in parts, with the same gradient."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.compute import devices
from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Message, Step
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.contrast.losses import nt_xent
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.segmentation.loss import SegmentationLoss
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training import memory_probe
from napari_sslseg.core.training.batch_parts import InParts
from napari_sslseg.core.training.job import TrainingError, TrainingJob
from napari_sslseg.core.training.memory_probe import find_batch_parts
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.train import run_job, train

pytestmark = pytest.mark.usefixtures("one_thread")


class Small(nn.Module):
    """A network on a device whose memory holds at most ``most`` images."""

    def __init__(self, network, most):
        super().__init__()
        self.network, self.most = network, most

    def forward(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.network(images)


def mean_loss(model, images):
    return (model(images) - images).square().mean()


def batch_dice(model, images):
    return SegmentationLoss("dice-ce")(model(images).repeat(1, 3, 1, 1), (images[:, 0] > 0).long())


def contrast(model, images):
    first, second = model(torch.cat([images, images.flip(3)])).flatten(1).chunk(2)
    return nt_xent(first, second, 0.5)


@pytest.mark.parametrize("loss", [mean_loss, batch_dice, contrast])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_the_gradient_equals_that_of_the_whole_batch(loss, parts):
    torch.manual_seed(0)
    whole = make_network(core.Network.preset("tiny"), 1, 1).double()
    other = deepcopy(whole)
    images = torch.randn(8, 1, 32, 32, dtype=torch.float64)
    one, two = loss(whole, images), loss(InParts(other, parts), images)
    one.backward()
    two.backward()
    assert float(two) == pytest.approx(float(one), rel=1e-6)
    theirs = dict(other.named_parameters())
    scale = max(p.grad.abs().max() for p in whole.parameters())
    for name, parameter in whole.named_parameters():
        assert (parameter.grad - theirs[name].grad).abs().max() <= 1e-6 * scale, name


def test_only_one_part_is_kept_at_a_time():
    network = make_network(core.Network.preset("tiny"), 1, 1)
    kept = []
    for parts in (1, 4):
        sizes = []

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            mean_loss(InParts(network, parts), torch.randn(8, 1, 32, 32))
        kept.append(sum(sizes))
    assert kept[1] < 0.2 * kept[0]


def test_running_averages_count_each_image_once():
    torch.manual_seed(1)
    norms = [nn.BatchNorm2d(2), nn.BatchNorm2d(2)]
    images = torch.randn(8, 2, 4, 4)
    for half in images.chunk(2):
        norms[0](half)
    InParts(norms[1], 2)(images.requires_grad_()).sum().backward()
    for name, buffer in norms[0].named_buffers():
        assert torch.allclose(buffer, dict(norms[1].named_buffers())[name]), name
    assert norms[1].momentum == 0.1


def test_several_outputs_stay_several():
    class Two(nn.Module):
        def forward(self, x):
            return x, (2 * x, 3 * x)

    x = torch.randn(5, 2)
    one, (two, three) = InParts(Two(), 2)(x)
    assert torch.equal(one, x)
    assert torch.equal(two, 2 * x)
    assert torch.equal(three, 3 * x)
    with torch.inference_mode():
        assert torch.equal(InParts(Two(), 2)(x)[0], x)


def job(most, **changes):
    torch.manual_seed(0)
    images = torch.randn(12, 1, 32, 32)

    def loss(model, indices, generator):
        noise = 0.1 * torch.randn(len(indices), 1, 32, 32, generator=generator)
        return (model(images[indices] + noise) - images[indices]).square().mean()

    settings = Training(steps=6, batch_size=8, seed=2)
    model = Small(make_network(core.Network.preset("tiny"), 1, 1), most)
    work = TrainingJob(model, settings, shuffled_batches(np.arange(12), 8), 100, loss)
    return replace(work, **changes)


def run(work, folder):
    writer = RunWriter(folder, {"kind": "pretrain", "settings": {}})
    return list(train(work, writer, make_fabric("cpu")))


def test_too_little_memory_halves_the_parts(tmp_path):
    plenty, tight = job(99), job(3)
    run(plenty, tmp_path / "plenty")
    events = run(tight, tmp_path / "tight")
    texts = [event.text for event in events if isinstance(event, Message)]
    assert ["in 2 parts" in texts[0], "in 4 parts" in texts[1], len(texts)] == [True, True, 2]
    assert "at step 1 with 8 slices" in texts[0]
    assert "changes no result" in texts[1]
    assert sum(isinstance(event, Step) for event in events) == 6
    weights = dict(tight.model.named_parameters())
    for name, parameter in plenty.model.named_parameters():
        # Adam may divide by values as small as rounding errors.
        assert torch.allclose(parameter, weights[name], atol=1e-4), name


def test_a_network_with_batch_norm_reports_the_change(tmp_path):
    work = job(4)
    work.model.network = nn.Sequential(work.model.network, nn.BatchNorm2d(1))
    (text,) = [e.text for e in run(work, tmp_path) if isinstance(e, Message)]
    assert "batch normalisation averages over a part" in text


def test_a_task_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="cannot process in parts"):
        run(job(4, splits=False), tmp_path)


def test_less_than_one_slice_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"with 8 slices per step.*batch size"):
        run(job(0), tmp_path)


def test_a_resumed_run_keeps_the_parts(tmp_path):
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.runs.states.state_files import newest_state

    writer = RunWriter(tmp_path, {"kind": "pretrain", "settings": {}})
    events = train(job(4), writer, make_fabric("cpu"))
    while not isinstance(next(events), Step):
        pass
    events.close()
    found = newest_state(tmp_path)
    with pytest.raises(StopIteration) as end:
        next(found)
    state = end.value.value
    assert state.numbers["parts"] == 2
    again = train(job(4), RunWriter.resumed(Run.open(tmp_path), 1), make_fabric("cpu"), state=state)
    assert not [event for event in again if isinstance(event, Message)]


class TestBeforeTheTraining:
    def test_an_estimate_changes_nothing(self, monkeypatch):
        monkeypatch.setattr(memory_probe, "available_memory", lambda *_: 10 * 1024**3)
        work = job(99)
        before, random = deepcopy(work.model.state_dict()), torch.get_rng_state()
        plan = find_batch_parts(work, make_fabric("cpu"))
        assert (plan.size, plan.parts) == (8, 1)
        assert "of 10 GB free" in plan.message
        assert torch.equal(torch.get_rng_state(), random)
        assert work.model.training
        for name, tensor in work.model.state_dict().items():
            assert torch.equal(tensor, before[name])

    def test_fewer_images_are_used_if_some_do_not_fit(self, monkeypatch):
        monkeypatch.setattr(memory_probe, "available_memory", lambda *_: 2**40)
        work = job(3)
        before = deepcopy(work.model.state_dict())
        assert find_batch_parts(work, make_fabric("cpu")).parts == 1
        for name, tensor in work.model.state_dict().items():
            assert torch.equal(tensor, before[name])
        for impossible in (job(0), job(3, splits=False)):
            with pytest.raises(TrainingError, match="Out of memory"):
                find_batch_parts(impossible, make_fabric("cpu"))

    def test_it_is_close_to_the_memory_of_a_step(self, monkeypatch):
        sizes = []
        monkeypatch.setattr(memory_probe, "available_memory", lambda *_: 2**40)
        monkeypatch.setattr(memory_probe, "gigabytes", lambda size: sizes.append(size) or "")
        work = job(99)
        find_batch_parts(work, make_fabric("cpu"))
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = work.loss(work.model, np.arange(8), torch.Generator())
        assert float(loss) > 0
        assert sizes[0] == pytest.approx(sum(kept.values()), rel=0.3)

    def test_too_little_memory_divides_the_batch(self, monkeypatch):
        monkeypatch.setattr(memory_probe, "available_memory", lambda *_: 2 * 1024**2)
        plan = find_batch_parts(job(99), make_fabric("cpu"))
        assert plan.parts in (2, 4, 8)
        assert plan.size == 8 // plan.parts
        assert "are free, so" in plan.message
        plan = find_batch_parts(job(99, splits=False), make_fabric("cpu"))
        assert plan.parts == 1
        assert "lower the batch size" in plan.message

    def test_unknown_memory_is_accepted(self, monkeypatch):
        monkeypatch.setattr(memory_probe, "available_memory", lambda *_: None)
        assert find_batch_parts(job(99), make_fabric("cpu")).message == ""

    def test_it_is_reported_and_the_model_is_unchanged(self, tmp_path):
        work = job(99)
        writer = RunWriter(tmp_path, {"kind": "pretrain", "settings": {}})
        events = list(run_job(work, writer, make_fabric("cpu")))
        assert isinstance(events[0], Message)
        assert all(parameter.device.type == "cpu" for parameter in work.model.parameters())


class TestDevice:
    @pytest.mark.parametrize(
        ("device", "asked", "words"),
        [
            ("cpu", "cpu", "1 thread, as requested"),
            ("cpu", "auto", "cpu ("),
            ("cuda", "auto", "cuda:0 (Test card), the first CUDA device"),
            ("mps", "auto", "no CUDA device"),
        ],
    )
    def test_it_is_named_with_the_reason(self, monkeypatch, device, asked, words):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Test card")
        found = torch.device("cuda:0" if device == "cuda" else device)
        text = devices.device_message(found, asked, 1)
        assert words in text
        assert text.startswith(f"Device: {found} (")

    @pytest.mark.parametrize(
        ("cores", "usual", "asked", "threads"),
        [(8, 8, None, 7), (8, 4, None, 4), (2, 2, None, 2), (1, 1, None, 1), (8, 8, 3, 3)],
    )
    def test_one_core_is_left_to_the_interface(self, monkeypatch, cores, usual, asked, threads):
        chosen = [usual]
        monkeypatch.setattr(devices, "usable_cores", lambda: cores)
        monkeypatch.setattr(torch, "get_num_threads", lambda: chosen[-1])
        monkeypatch.setattr(torch, "set_num_threads", chosen.append)
        assert devices.limit_threads(asked) == threads
        assert chosen[-1] == threads

    def test_zero_threads_are_refused(self):
        with pytest.raises(ConfigError, match="at least one thread"):
            devices.limit_threads(0)
