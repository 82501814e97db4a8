"""Compiling does not change results; a network that cannot be compiled is trained without it."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from napari_sslseg.core.training.compiled import CompiledNetwork

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="there is no C++ compiler"
)
PROGRAM = """
import sys
import numpy as np, torch
from pathlib import Path
from torch import nn
from torch.nn import functional
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.common.events import Message, Step, return_value
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.runs.states.state_files import newest_state
from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.training.train import train

folder, compiled, parts = Path(sys.argv[1]), sys.argv[2] == "compiled", int(sys.argv[3])
torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.last(functional.dropout(self.first(x).relu(), 0.2, self.training))

def make_job(steps=6):
    torch.manual_seed(0)
    model = Net()
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def loss(model, indices, generator):
        noise = torch.randn(len(indices), 1, 16, 16, generator=generator)
        return (model(images[indices] + noise) - images[indices]).square().mean()

    def validate(model):
        return {"loss": float((model(images[:3]) - images[:3]).square().mean())}

    settings = Training(steps=steps, batch_size=4, compile=compiled, schedule="constant")
    batches = shuffled_batches(np.arange(8), 4)
    return TrainingJob(model, settings, batches, 2, loss, validate)

fabric = make_fabric("cpu")
ABOUT = {"kind": "pretrain", "settings": {}}

def go(job, name, state=None):
    for event in train(job, RunWriter(folder / name, ABOUT), fabric, state=state, parts=parts):
        if isinstance(event, Message):
            print(event.text)

go(make_job(), "whole")
if compiled and parts == 1:
    half = iter(train(make_job(), RunWriter(folder / "half", ABOUT), fabric))
    while not isinstance(event := next(half), Step) or event.step < 3:
        pass
    half.close()  # which saves a state
    go(make_job(), "resumed", return_value(newest_state(folder / "half")))
if compiled:
    from torch._dynamo.utils import counters
    print("graphs", counters["stats"]["unique_graphs"], file=sys.stderr)
"""


def run(folder, how, parts=1, **environment):
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"), "TORCH_COMPILE_DISABLE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), how, str(parts)],
        capture_output=True,
        text=True,
        env=os.environ | cache | environment,
    )
    assert done.returncode == 0, done.stderr
    weights = load_file(folder / "whole" / "last.safetensors")
    graphs = re.search(r"^graphs (\d+)$", done.stderr, re.MULTILINE)
    return done.stdout.splitlines(), weights, int(graphs[1]) if graphs else 0


@pytest.mark.slow
def test_without_a_compiler_the_training_continues_and_reports_why(tmp_path):
    expected = run(tmp_path / "plain", "plain")[1]
    messages, weights, _ = run(tmp_path / "compiled", "compiled", CXX="/no/such/compiler")
    assert len(set(messages)) == 1  # once for each of the trainings
    assert "could not be compiled (" in messages[0]
    assert messages[0].count(". ") == 0
    assert weights.keys() == expected.keys()
    for name in weights:
        assert torch.equal(weights[name], expected[name])


@needs_compiler
@pytest.mark.slow
def test_compiled_weights_have_the_same_names_and_resume_exactly(tmp_path):
    expected = run(tmp_path / "plain", "plain")[1]
    messages, weights, graphs = run(tmp_path / "compiled", "compiled")
    assert messages == []
    assert graphs > 0
    assert weights.keys() == expected.keys()
    resumed = load_file(tmp_path / "compiled" / "resumed" / "last.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(tensor, resumed[name])


@needs_compiler
@pytest.mark.slow
def test_a_compiled_network_processes_a_batch_in_parts(tmp_path):
    messages, weights, graphs = run(tmp_path / "compiled", "compiled", parts=2)
    assert messages == []
    assert graphs > 0
    assert all(tensor.isfinite().all() for tensor in weights.values())


def fail(error):
    raise error


def test_errors_count_as_compiler_errors_only_while_compiled():
    compiled = CompiledNetwork(nn.Linear(2, 2), wanted=True)
    error = RuntimeError("no kernel")
    assert compiled.attempt(lambda: fail(error)) is error
    with pytest.raises(ValueError, match="a mistake"):
        compiled.attempt(lambda: fail(ValueError("a mistake")))
    message = compiled.give_up(error)
    assert "(no kernel)" in message.text
    with pytest.raises(RuntimeError, match="no kernel"):
        compiled.attempt(lambda: fail(error))


def test_compiling_is_disabled_in_a_block():
    network = nn.Linear(2, 2)
    compiled = CompiledNetwork(network, wanted=True)
    with compiled.disabled():
        assert network._compiled_call_impl is None
    assert network._compiled_call_impl is not None
    compiled.close()
    assert network._compiled_call_impl is None
    assert list(network.state_dict()) == ["weight", "bias"]
