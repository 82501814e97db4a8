"""A training in progress: one step, and saving and restoring its state."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.distributed import (
    all_gather_objects,
    rank,
    run_on_first,
    shard,
    world_size,
)
from napari_sslseg.core.common.compute.randomness import (
    prepare_processes,
    process_seed,
    random_state_name,
    random_states,
    set_random_states,
)
from napari_sslseg.core.common.errors import (
    CheckpointError,
    DataError,
    LostFolderError,
    StorageError,
)
from napari_sslseg.core.common.events import Event, Message, Preview, Saved, Step, Validation
from napari_sslseg.core.common.lock import check_locks
from napari_sslseg.core.runs.record import RECORD
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.runs.states.state import State
from napari_sslseg.core.runs.states.state_check import optimizer_state
from napari_sslseg.core.runs.states.state_files import state_name, state_size, write_state
from napari_sslseg.core.runs.weights.checkpoints import fill, save_weights
from napari_sslseg.core.training.batch_parts import InParts
from napari_sslseg.core.training.compiled import CompiledNetwork
from napari_sslseg.core.training.gradients import Gradients
from napari_sslseg.core.training.job import TrainingError, TrainingJob
from napari_sslseg.core.training.sampler import BatchSequence
from napari_sslseg.core.training.save_interval import SaveInterval
from napari_sslseg.core.training.schedules import (
    EarlyStopper,
    Schedule,
    make_optimizer,
    validation_interval,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Result = TypeVar("Result")
# Values that the optimiser stores per weight, for the size of a state: Adam has two.
OPTIMIZER_COPIES = 2
PATIENCE_AT_ZERO = 20
"""Steps after which a loss that was never other than 0 ends the training."""


class Loop:
    """A training in progress.

    Between two calls of :meth:`advance` all work up to ``step`` is complete, so a state taken there
    leads to the same weights as a training without interruption.

    Parameters
    ----------
    job : TrainingJob
        What to train.
    run : RunWriter
        Run folder for weights, states and metrics.
    fabric : Fabric
        Device and precision.
    parts : int
        Number of parts that a batch is divided into at first.
    """

    def __init__(self, job: TrainingJob, run: RunWriter, fabric: "Fabric", parts: int = 1) -> None:
        settings = job.settings
        self.job, self.run, self.fabric = job, run, fabric
        if world_size() > 1:
            prepare_processes(job.model, settings.seed, fabric.device)
        self.optimizer = make_optimizer(job.model, settings, job.plan)
        per_epoch, factor = job.steps_per_epoch, job.plan.factor if job.plan else None
        self.schedule = Schedule(self.optimizer, settings, per_epoch, job.better, factor)
        if job.plan is not None:
            job.plan.begin(0)
        network, self._wrapped = fabric.setup(job.model, self.optimizer)
        self.compiled = CompiledNetwork(job.model, settings.compile)
        self.network = InParts(network, parts)
        # Each process draws random numbers for its own samples.
        self.draws = torch.Generator().manual_seed(process_seed(settings.seed))
        self.gradients = Gradients(
            job,
            fabric,
            self.network,
            self._wrapped,
            self.draws,
            self.compiled,
            self.last_checkpoint,
        )
        self.batches = BatchSequence(job.batches, settings.seed)
        self.early_stopper = EarlyStopper(settings.early_stopping, job.better)
        self.step = 0
        self._no_preview = ""
        self.row: dict[str, float] = {}
        self.complete = self.ready = True
        self.landmark = False
        self._every = validation_interval(settings, job.steps_per_epoch)
        self._saved: int | None = None
        self._lost = False
        self._learns = False
        size = state_size(job.model.state_dict()) * (2 + OPTIMIZER_COPIES)
        self.interval = SaveInterval(settings.checkpoint_seconds, settings.checkpoint_share, size)

    @property
    def done(self) -> bool:
        """Whether the training has finished, early or not."""
        return self.step >= self.job.settings.steps or self.early_stopper.exhausted

    @property
    def all_saved(self) -> bool:
        """Whether the newest state is that of the last step, so that resuming repeats no step."""
        return self._saved == self.step

    def advance(self) -> list[Event]:
        """Make one step, and a validation if it is due; returns their events."""
        job, settings = self.job, self.job.settings
        if self.step % job.steps_per_epoch == 0:
            self._begin_epoch()
        self.complete = False
        events = self._set_phase(self.step)
        started = time.perf_counter()
        batch = self.batches.next()
        used = None if job.count_used is None else job.count_used(batch)
        indices = shard(batch, job.groups)
        value, norm, messages = self.gradients(indices, self.step + 1)
        events += messages
        self._check(value, norm, batch)
        rate = self.optimizer.param_groups[0]["lr"]
        self._wrapped.step()
        self.schedule.step()
        if job.after_step is not None:
            job.after_step()
        self.step += 1
        self.row = {"step": self.step, "loss": value, "learning_rate": rate}
        self.run.row(self.row)
        count = len(batch) if used is None else used
        speed = count / (time.perf_counter() - started)
        work = job.cost(self.step - 1), job.cost_left(self.step)
        events.append(Step(self.step, settings.steps, value, rate, speed, *work))
        validates = job.validate is not None and (
            self.step % self._every == 0 or self.step == settings.steps
        )
        if validates:
            events += self._validate()
        single = job.steps_per_epoch == 1
        self.landmark = validates if single else self.step % job.steps_per_epoch == 0
        self.complete = True
        return events

    def _set_phase(self, step: int) -> list[Event]:
        """Freeze or unfreeze the encoder for a step (from 0); returns a message if that changed."""
        if self.job.plan is None or not self.job.plan.begin(step):
            return []
        if world_size() > 1:
            # DDP waits for gradients of the parameters that were trainable when it was made.
            self.network.network = self.fabric.setup_module(self.job.model)
        return [Message(f"From step {step + 1} on, the encoder is trained as well.")]

    def _begin_epoch(self) -> None:
        job = self.job
        last = (job.settings.steps - 1) // job.steps_per_epoch
        if job.begin_epoch is not None:
            job.begin_epoch(min(1.0, self.step // job.steps_per_epoch / max(1, last)))

    def _check(self, value: float, norm: float, indices: np.ndarray) -> None:
        # With 16-mixed a gradient may overflow from time to time; the scaler skips such a step.
        self._learns = self._learns or value != 0
        if not self._learns and self.step + 1 == PATIENCE_AT_ZERO:
            raise TrainingError(
                f"The loss is 0 since the start, {PATIENCE_AT_ZERO} steps ago, so there is nothing "
                "to learn; check that the scans show something in the preview of the task, and "
                "that their modality is right."
            )
        overflow = not math.isfinite(norm) and self.job.settings.precision != "16-mixed"
        if math.isfinite(value) and not overflow:
            return
        batch = f" The batch was of {self.job.describe(indices)}." if self.job.describe else ""
        kept = ""
        if self._saved is not None:
            # Resuming would lead to the same error.
            kept = (
                f", or from the weights in {self.run.folder}, of step {self._saved}, with --init "
                "and another --out"
            )
        raise TrainingError(
            f"The loss became {value} (gradient {norm:g}) at step {self.step + 1}; start again "
            f"with a lower learning rate{kept}.{batch}"
        )

    def _validate(self) -> list[Event]:
        job = self.job
        assert job.validate is not None
        with self.fabric.autocast(), self.compiled.disabled():
            metrics = evaluate_mode(self._evaluated(), job.validate)
        improved = self.early_stopper.improved(metrics[job.monitor])
        self.schedule.validated(metrics[job.monitor])
        self.run.row({"step": self.step} | {f"validation_{k}": v for k, v in metrics.items()})
        events: list[Event] = [self.save_weights("best", metrics)] if improved else []
        epoch = self.step // job.steps_per_epoch
        events.append(Validation(self.step, epoch, metrics, improved))
        if self.early_stopper.exhausted:
            text = f"Stopped at step {self.step}: the validation no longer improves."
            events.append(Message(text))
        return events

    def show(self) -> list[Event]:
        """Make a preview; does not change the training, also if the scan has no preview."""
        if self.job.show is None:
            return []
        try:
            with self.fabric.autocast(), self.compiled.disabled():
                picture = evaluate_mode(self._evaluated(), self.job.show)
        except DataError as error:
            text = str(error)
            new, self._no_preview = text != self._no_preview, text
            return [Message(text)] if new else []
        return [] if picture is None else [Preview(self.step, picture)]

    def _evaluated(self) -> nn.Module:
        """Network for validation: without DDP, which would synchronise the processes."""
        if world_size() == 1:
            return self.network
        return InParts(self.job.model, self.network.parts)

    def check_folder(self) -> None:
        """If the run folder is lost, save the state elsewhere and raise a LostFolderError."""
        with self._rescued():
            run_on_first(lambda: check_locks(self.run.folder / RECORD))

    @contextmanager
    def _rescued(self) -> Iterator[None]:
        """Save the state elsewhere if the run folder is lost, and say where."""
        try:
            yield
        except LostFolderError as error:
            if self._lost:  # The other place is lost as well.
                raise
            self._lost, self._saved = True, None
            raise LostFolderError(f"{error} {self._save_elsewhere()}") from error

    def _save_elsewhere(self) -> str:
        """Save the state outside of the run folder; returns a sentence that says where."""
        folder = run_on_first(self.run.rescue)
        if folder is None:
            return "The last state could not be saved anywhere else."
        self.run.folder = folder
        try:
            self.save()
        except StorageError as error:
            return f"The last state could not be saved elsewhere either: {error}"
        return (
            f"The state after step {self.step} is saved in {folder}; continue from it with "
            f"--resume --out {folder}."
        )

    def save_weights(self, which: str, metrics: Mapping[str, float]) -> Saved:
        """Write weights without a state, such as the best, and which state they belong to."""
        path = self.run.folder / f"{which}.safetensors"
        state = None if self._saved is None else state_name(self._saved)
        about = {"step": self.step, "metrics": dict(metrics), "state": state}
        with self._rescued():
            run_on_first(lambda: save_weights(path, self.job.kept or self.job.model, about))
        return Saved(path, self.step)

    def save_last(self) -> Saved:
        """Write the latest weights without a state."""
        with self._rescued():
            run_on_first(self.run.write_metrics)
        return self.save_weights("last", self.row)

    def save(self) -> Saved:
        """Write the state, from which the training can be resumed, and the latest weights."""
        self.interval.begin()
        if self._saved != self.step:
            # The metrics first, since the state stores their number of rows.
            state = self.state()
            with self._rescued():
                run_on_first(self.run.write_metrics)
                run_on_first(lambda: write_state(self.run.folder, state))
            self._saved = self.step
        saved = self.save_weights("last", self.row)
        self.interval.end()
        return saved

    def last_checkpoint(self) -> str:
        """Sentence on the last checkpoint, for errors; empty if there is none."""
        if self._saved is None:
            return ""
        return (
            f" The last checkpoint in {self.run.folder} is of step {self._saved}; continue from it "
            "with --resume."
        )

    def state(self) -> State:
        """State of the training, which determines all later steps."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{k}": v for k, v in self.job.model.state_dict().items()}
        values: dict[str, dict[str, Any]] = {}
        for number, moments in optimizer["state"].items():
            for name, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{number}.{name}"] = value
                else:
                    values.setdefault(str(number), {})[name] = value
        random = {"draws": self.draws.get_state(), **random_states(self.fabric.device)}
        for number, states in enumerate(all_gather_objects(random)):
            tensors |= {
                f"{random_state_name(number)}.{name}": state for name, state in states.items()
            }
        numbers = {
            "optimizer": {"groups": optimizer["param_groups"], "values": values},
            "schedule": self.schedule.state_dict(),
            "patience": self.early_stopper.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "drawn": self.batches.drawn,
            "sampler": self.batches.position,
            "parts": self.network.parts,
            "rows": self.run.count,
            "row": self.row,
            "processes": world_size(),
        }
        return State(self.step, tensors, numbers)

    def restore(self, state: State) -> None:
        """Restore a state.

        Raises
        ------
        CheckpointError
            If it belongs to another network or to other slices.
        """
        self.ready = False
        numbers = state.numbers
        precision = self.fabric.strategy.precision.state_dict()
        try:
            optimizer = optimizer_state(state, self.optimizer, precision, self.fabric.device)
        except ValueError as error:
            raise CheckpointError(
                f"The run in {self.run.folder} cannot be resumed at step {state.step} ({error}); "
                "start again with --overwrite, or from its weights with --init."
            ) from error
        fill(self.job.model, state.part("model"), self.run.folder)
        self.optimizer.load_state_dict(optimizer)
        _follow_layout(self.optimizer)
        self.schedule.load_state_dict(numbers["schedule"])
        self.early_stopper.load_state_dict(numbers["patience"])
        self.fabric.strategy.precision.load_state_dict(dict(numbers["precision"]))
        self.batches.skip_to(numbers["drawn"])
        if json.loads(json.dumps(self.batches.position)) != numbers["sampler"]:
            raise CheckpointError(
                f"The run in {self.run.folder} used other slices than there are now, so it cannot "
                "be resumed; give the same scans with the same version, or start again."
            )
        self.network.parts = numbers["parts"]
        self.step, self.row = state.step, dict(numbers["row"])
        self._saved = state.step
        # As in the last step made; if the freeze ends here, the next step reports it.
        self._set_phase(max(0, self.step - 1))
        # Restores the progress that the loss was given at the start of the current epoch.
        self._begin_epoch()
        if numbers.get("processes", 1) == world_size():
            random = state.part(random_state_name(rank()))
            self.draws.set_state(random.pop("draws"))
            set_random_states(random, self.fabric.device)
        else:
            # No random states were saved for these processes, and all must draw differently.
            self.draws.manual_seed(process_seed(self.job.settings.seed) + self.step)
        self.ready = True

    def close(self) -> None:
        """Free the memory of the optimiser and of compiled code."""
        self.compiled.close()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()


def _follow_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the layout of their weights in memory, on which their rounding depends."""
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight, requires_grad=False).copy_(value)


def evaluate_mode(model: nn.Module, function: Callable[[nn.Module], Result]) -> Result:
    """Call ``function`` on the model in evaluation mode, without gradients."""
    model.eval()
    with torch.inference_mode():
        result = function(model)
    model.train()
    return result
