"""Distributed training: the same result, one run folder, one output."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.compute import distributed
from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import ConfigError
from paths import HELPERS
from together_process import LOSSES, TASKS

SCRIPT = HELPERS / "together_process.py"
# The installed command: further processes are started by running it again.
COMMAND = str(Path(sys.executable).parent / "napari-sslseg")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "last.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run the same trainings with one and with two processes; return folders and outputs."""
    found = {}
    for processes in (1, 2):
        out = tmp_path_factory.mktemp(f"by-{processes}")
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(out), str(processes)],
            env=ONE_THREAD, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[processes] = out, done.stdout
    return found


@pytest.mark.parametrize("name", [*TASKS, *LOSSES])
def test_two_processes_train_like_one(trained, name):
    one, two = (trained[n][0] / name for n in (1, 2))
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    for key, values in mine.items():
        np.testing.assert_allclose(theirs[key], values, rtol=0, atol=1e-5, err_msg=key)
    rows, others = (core.Run.open(folder).metrics() for folder in (one, two))
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_five_steps_change_the_weights_by_more_than_the_tolerance(trained):
    # All encoders start with the same weights, so differences come from training.
    one, other = (
        weights(trained[1][0] / name)["encoder.levels.2.conv.weight"] for name in TASKS[:2]
    )
    assert (one - other).abs().max() > 1e-4


def test_a_masked_loss_is_averaged_over_the_pixels_of_all_processes(trained):
    # 0² once, and the first six of 27…35 squared: 5239 / 7 pixels.
    assert [trained[n][1].count("masked loss 748.429") for n in (1, 2)] == [1, 2]


def test_all_processes_use_one_run_folder(trained):
    out, text = trained[2]
    for name in (*TASKS, *LOSSES):
        assert all(f"{name}: process {n} has {name}" in text for n in (0, 1))
        record = json.loads((out / name / "run.json").read_text())
        assert (record["status"], record["processes"]) == ("finished", 2)
        assert not (out / name / "states").exists()
        steps = [row["step"] for row in core.Run.open(out / name).metrics() if "loss" in row]
        assert steps == [1, 2, 3, 4, 5]


def test_processes_have_different_samples(monkeypatch):
    batch = np.arange(12)
    taken = []
    for number in range(2):
        monkeypatch.setattr(distributed, "_layout", (2, 1))
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        taken.append(distributed.shard(batch, groups=3).tolist())
    assert taken == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    with pytest.raises(ConfigError, match=r"batch of 5 .*2"):
        distributed.shard(np.arange(15), groups=3)


def test_a_single_process_exchanges_nothing():
    assert distributed.shard(batch := np.arange(5)) is batch
    assert distributed.all_reduce_any(True, False) == (True, False)
    assert distributed.all_gather_objects(3) == [3]
    assert distributed.run_on_first(lambda: 4) == 4
    assert distributed.all_reduce_sum({"a": 1.5}) == {"a": 1.5}


@pytest.mark.parametrize(
    ("device", "said"), [("cuda:1", "cuda"), ("mps", "MPS|mps"), ("tpu", "no device tpu")]
)
def test_devices_that_cannot_train_together_are_refused(device, said):
    with pytest.raises(ConfigError, match=said):
        make_fabric(device, devices=2)


class TestCommandLine:
    def start(self, scans, out, *options, **more):
        command = [COMMAND, "pretrain", str(scans), "--out", str(out), "--device", "cpu", *options]
        return subprocess.Popen(
            command, env=ONE_THREAD, stderr=subprocess.PIPE, text=True, start_new_session=True,
            **more,
        )  # fmt: skip

    def until_saved(self, process, out):
        limit = time.monotonic() + 120
        while not list((out / "states").glob("[0-9]*.safetensors")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < limit, "nothing was saved"
            time.sleep(0.1)

    @pytest.mark.slow
    def test_ctrl_c_stops_all_and_the_run_resumes(self, scans, tmp_path):
        out = tmp_path / "run"
        process = self.start(
            scans, out, "--network", "tiny", "--steps", "20000", "--batch-size", "4",
            "--devices", "2",
        )  # fmt: skip
        self.until_saved(process, out)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130, said
        # Only one of the two processes prints.
        assert said.count("Stopping after this step") == 1
        assert said.count("use --resume") == 1
        assert said.count("Device: 2 processes on the CPU") == 1
        stopped = json.loads((out / "last.json").read_text())["step"]

        process = self.start(scans, out, "--resume", "--devices", "2")
        line = process.stderr.readline()
        assert f"after step {stopped}" in line
        # If one process is killed, the other one ends with an error and nothing is lost.
        time.sleep(0.1)
        self.until_step(process, out, stopped)
        subprocess.run(["pkill", "-9", "-n", "-f", str(out)], check=True)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 2, said
        assert "processes that train together has ended" in said
        assert "Traceback" not in said
        assert list((out / "states").glob("*.safetensors"))

    def until_step(self, process, out, step):
        """Wait for a state after a step."""
        limit = time.monotonic() + 120
        while max(int(p.stem) for p in (out / "states").glob("[0-9]*.safetensors")) <= step:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < limit, "nothing more was saved"
            time.sleep(0.1)

    @pytest.mark.slow
    def test_an_indivisible_batch_is_refused_once(self, scans, tmp_path):
        process = self.start(
            scans, tmp_path / "run", "--network", "tiny", "--batch-size", "5", "--devices", "2"
        )
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 2
        assert said.count("batch of 5 ") == 1
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_torchrun_starts_the_processes(self, scans, tmp_path):
        done = subprocess.run(
            [
                sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
                COMMAND, "pretrain", str(scans), "--out", str(tmp_path / "run"),
                "--device", "cpu", "--network", "tiny", "--steps", "3", "--batch-size", "4",
            ],
            env=ONE_THREAD, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        record = core.Run.open(tmp_path / "run").record
        assert (record["status"], record["processes"]) == ("finished", 2)


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A folder of six phantoms."""
    folder = tmp_path_factory.mktemp("scans")
    core.write_dataset(folder, 6, labels=False)
    return folder / "images"
