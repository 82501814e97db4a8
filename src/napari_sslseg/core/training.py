"""The one training loop: a generator of events over Lightning Fabric.

What is trained is told apart from how: a :class:`Job` brings the network, the slices, the loss and
the validation; the loop brings the device and its precision, the optimiser, the schedule, early
stopping, checkpoints and the stop flag.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.checkpoints import save_weights
from napari_sslseg.core.config import EarlyStopping, Training
from napari_sslseg.core.errors import ConfigError, SslsegError
from napari_sslseg.core.events import Done, Event, Message, Saved, Step, StopFlag, Validation
from napari_sslseg.core.runs import RunWriter
from napari_sslseg.core.schedules import Schedule, make_optimizer, validation_interval

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Sampler = Callable[[np.random.Generator], Iterator[np.ndarray]]


class TrainingError(SslsegError):
    """A training that cannot go on."""


@dataclass(frozen=True, eq=False)
class Job:
    """What to train.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    settings : Training
        How.
    batches : callable
        From a random generator to an endless iterator of index arrays.
    steps_per_epoch : int
        Steps in which each slice is seen about once. The validation comes once an epoch, but not
        more than about 20 times in all, unless the settings say otherwise: with a few annotated
        slices an epoch is a single step. Where the settings count in epochs, their steps are
        those of :func:`~napari_sslseg.core.schedules.with_steps`.
    loss : callable
        ``(model, indices, generator) -> scalar Tensor``; fetches the batch and goes forward.
    validate : callable or None
        ``model -> figures`` by name, on data that the training does not see.
    monitor : str
        The figure that decides which weights are best.
    better : {"lower", "higher"}
        Which way it improves.
    kept : nn.Module, optional
        The part of the model whose weights are saved; all of it if not given.
    begin_epoch : callable, optional
        Told at the start of every epoch how much of the training has passed: 0 in the first
        epoch, 1 in the last.
    """

    model: nn.Module
    settings: Training
    batches: Sampler
    steps_per_epoch: int
    loss: Callable[[nn.Module, np.ndarray, torch.Generator], Tensor]
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    monitor: str = "loss"
    better: Literal["lower", "higher"] = "lower"
    kept: nn.Module | None = None
    begin_epoch: Callable[[float], None] | None = None


def make_fabric(device: str = "auto", precision: str = "32-true") -> "Fabric":
    """Fabric on one device.

    Parameters
    ----------
    device : str
        ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    precision : str
        As in :class:`~napari_sslseg.core.config.Training`.

    Raises
    ------
    ConfigError
        If this machine has no such device.
    """
    from lightning_fabric import Fabric

    name, _, number = device.partition(":")
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps") or (number and not (name == "cuda" and number.isdigit())):
        raise ConfigError(f"There is no device {device}; choose auto, cpu, cuda, cuda:N or mps.")
    if name == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"This machine has {torch.cuda.device_count()} CUDA devices, so {device} cannot be "
            "used; choose auto or cpu."
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("This machine has no MPS device; choose auto or cpu.")
    devices: Any = [int(number or 0)] if name == "cuda" else 1
    return Fabric(accelerator=name, devices=devices, precision=precision)  # type: ignore[arg-type]


def shuffled_batches(indices: np.ndarray, batch_size: int) -> Sampler:
    """Endless batches of full size; each index is seen once before any is seen again."""

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        pool = np.empty(0, indices.dtype)
        while True:
            while len(pool) < batch_size:
                pool = np.concatenate([pool, rng.permutation(indices)])
            batch, pool = pool[:batch_size], pool[batch_size:]
            yield batch

    return draw


class Patience:
    """Decides when to stop early, see :class:`~napari_sslseg.core.config.EarlyStopping`.

    ``best`` is the best of all; the margin counts from the value that last beat it.
    """

    def __init__(self, settings: EarlyStopping | None, better: Literal["lower", "higher"]) -> None:
        self.settings = settings
        self.sign = 1.0 if better == "lower" else -1.0
        self.best = math.inf
        self.reference = math.inf
        self.waited = 0

    def improved(self, value: float) -> bool:
        """Take in a value; whether it is the best so far."""
        value *= self.sign
        margin = self.settings.min_delta if self.settings else 0.0
        if value < self.reference - margin:
            self.reference, self.waited = value, 0
        else:
            self.waited += 1
        if value < self.best:
            self.best = value
            return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether to stop."""
        return self.settings is not None and self.waited >= self.settings.patience


def train(
    job: Job, run: RunWriter, fabric: "Fabric", stop: StopFlag | None = None
) -> Iterator[Event]:
    """Train; weights go to the run folder, and the model holds the latest when this ends.

    Parameters
    ----------
    job : Job
        What to train.
    run : RunWriter
        Where checkpoints and metrics go.
    fabric : Fabric
        Device and precision.
    stop : StopFlag, optional
        Takes effect after the current step; the latest weights are saved.

    Yields
    ------
    Step, Validation, Saved, Message
        A Message says why the training ended early, if it did, and what cannot work without a
        validation.

    Raises
    ------
    TrainingError
        If the loss is not finite; the last checkpoint stands.
    """
    settings = job.settings
    optimizer = make_optimizer(job.model, settings)
    schedule = Schedule(optimizer, settings, job.steps_per_epoch, job.better)
    model, wrapped = fabric.setup(job.model, optimizer)
    draws = torch.Generator().manual_seed(settings.seed)
    batches = job.batches(np.random.default_rng(settings.seed))
    patience = Patience(settings.early_stopping, job.better)
    every = validation_interval(settings, job.steps_per_epoch)
    last_epoch = (settings.steps - 1) // job.steps_per_epoch
    saved_at = time.monotonic()
    step = 0

    def save(which: str, metrics: Mapping[str, float]) -> Saved:
        path = run.folder / f"{which}.safetensors"
        save_weights(path, job.kept or job.model, {"step": step, "metrics": dict(metrics)})
        run.write_metrics()
        return Saved(path, step)

    row: dict[str, float] = {}
    if job.validate is None:
        yield from _missed(settings)
    try:
        while step < settings.steps and not (stop is not None and stop.is_set):
            if job.begin_epoch is not None and step % job.steps_per_epoch == 0:
                job.begin_epoch(step // job.steps_per_epoch / max(1, last_epoch))
            step += 1
            started = time.perf_counter()
            indices = next(batches)
            model.train()
            # Parts of the model that a loss calls by themselves take the precision from here.
            with fabric.autocast():
                loss = job.loss(model, indices, draws)
            wrapped.zero_grad(set_to_none=True)
            fabric.backward(loss)
            value = float(loss.detach())
            norm: Tensor | float | None = 0.0
            if settings.gradient_clip:
                norm = fabric.clip_gradients(
                    model, wrapped, max_norm=settings.gradient_clip, error_if_nonfinite=False
                )
            # In 16-mixed a gradient may overflow now and then: its scaler skips such a step.
            overflow = not math.isfinite(norm or 0.0) and settings.precision != "16-mixed"
            if not math.isfinite(value) or overflow:
                raise TrainingError(
                    f"The loss became {value} (gradient {float(norm or 0.0):g}) at step {step}; "
                    f"lower the learning rate.{_what_stands(run.folder)}"
                )
            rate = optimizer.param_groups[0]["lr"]
            wrapped.step()
            schedule.step()
            row = {"step": step, "loss": value, "learning_rate": rate}
            run.row(row)
            speed = len(indices) / (time.perf_counter() - started)
            yield Step(step, settings.steps, value, rate, speed)
            ends = step == settings.steps or (stop is not None and stop.is_set)
            if job.validate is not None and (step % every == 0 or ends):
                with fabric.autocast():
                    metrics = evaluate_mode(model, job.validate)
                improved = patience.improved(metrics[job.monitor])
                schedule.validated(metrics[job.monitor])
                run.row({"step": step} | {f"validation_{k}": v for k, v in metrics.items()})
                if improved:
                    yield save("best", metrics)
                yield Validation(step, step // job.steps_per_epoch, metrics, improved)
                if patience.exhausted:
                    yield Message(f"Stopped at step {step}: the validation no longer improves.")
                    break
            if time.monotonic() - saved_at > settings.checkpoint_seconds:
                yield save("last", row)
                saved_at = time.monotonic()
    except (KeyboardInterrupt, GeneratorExit):
        save("last", row)
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"Out of memory at step {step} with {settings.batch_size} slices per step; lower the "
            f"batch size, or take a smaller network or coarser pixels.{_what_stands(run.folder)}"
        ) from error
    yield save("last", row)


def _missed(settings: Training) -> Iterator[Message]:
    """Say what these settings ask for that only a validation could decide."""
    missed = ["lower the learning rate"] if settings.schedule == "plateau" else []
    missed += ["stop the training early"] if settings.early_stopping else []
    if missed:
        yield Message(
            f"There is no validation to {' or '.join(missed)} by, so it goes on as it is to the "
            "last step; keep some subjects apart for one."
        )


def run_job(
    job: Job, run: RunWriter, fabric: "Fabric", stop: StopFlag | None = None
) -> Iterator[Event]:
    """Train as :func:`train` does, record how it ended, and yield Done with the Run at last."""
    status = "failed"
    try:
        yield from train(job, run, fabric, stop)
        status = "stopped" if stop is not None and stop.is_set else "finished"
    except (KeyboardInterrupt, GeneratorExit):
        status = "stopped"
        raise
    finally:
        result = run.finish(status)
    yield Done(result, stopped=status == "stopped")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device, or the machine, has too little memory."""
    # On the CPU it is a plain RuntimeError of the allocator.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _what_stands(folder: Path) -> str:
    stands = (folder / "last.safetensors").exists() or (folder / "best.safetensors").exists()
    return f" The last checkpoint in {folder} stands." if stands else ""


def evaluate_mode(
    model: nn.Module, function: Callable[[nn.Module], dict[str, float]]
) -> dict[str, float]:
    """Call ``function`` on the model in evaluation mode, without gradients."""
    model.eval()
    with torch.inference_mode():
        metrics = function(model)
    model.train()
    return metrics
