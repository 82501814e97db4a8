"""One training in progress: its parts, one step of it, and its state, taken and set."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.checkpoints import fill, save_weights
from napari_sslseg.core.chunks import InParts, averages_over_batches
from napari_sslseg.core.distributed import everyone, on_first, rank, share, world_size
from napari_sslseg.core.errors import CheckpointError
from napari_sslseg.core.events import Event, Message, Saved, Step, Validation
from napari_sslseg.core.gathered import averaged
from napari_sslseg.core.job import Draws, Job, TrainingError, is_out_of_memory
from napari_sslseg.core.pace import Pace
from napari_sslseg.core.randomness import (
    prepare_processes,
    process_seed,
    random_part,
    random_states,
    set_random_states,
)
from napari_sslseg.core.runs import RunWriter
from napari_sslseg.core.schedules import Patience, Schedule, make_optimizer, validation_interval
from napari_sslseg.core.state import State, state_name, state_size, write_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Values of the optimiser beside the weights, for the size of a state: Adam has two.
OPTIMIZER_COPIES = 2


class Loop:
    """A training in progress.

    Between two calls of :meth:`advance` all that happened up to ``step`` is complete, so that a
    state taken there leads to the same weights as if there had been no interruption.

    Parameters
    ----------
    job : Job
        What to train.
    run : RunWriter
        Where weights, states and metrics go.
    fabric : Fabric
        Device and precision.
    parts : int
        In how many parts a batch passes through the network at first.
    """

    def __init__(self, job: Job, run: RunWriter, fabric: "Fabric", parts: int = 1) -> None:
        settings = job.settings
        self.job, self.run, self.fabric = job, run, fabric
        if world_size() > 1:
            prepare_processes(job.model, settings.seed, fabric.device)
        self.optimizer = make_optimizer(job.model, settings)
        self.schedule = Schedule(self.optimizer, settings, job.steps_per_epoch, job.better)
        network, self._wrapped = fabric.setup(job.model, self.optimizer)
        self.network = InParts(network, parts)
        # Every process draws for samples of its own.
        self.draws = torch.Generator().manual_seed(process_seed(settings.seed))
        self.batches = Draws(job.batches, settings.seed)
        self.patience = Patience(settings.early_stopping, job.better)
        self.step = 0
        self.row: dict[str, float] = {}
        self.complete = True
        self.landmark = False
        self._every = validation_interval(settings, job.steps_per_epoch)
        self._saved: int | None = None
        size = state_size(job.model.state_dict()) * (2 + OPTIMIZER_COPIES)
        self.pace = Pace(settings.checkpoint_seconds, settings.checkpoint_share, size)

    @property
    def done(self) -> bool:
        """Whether the training has come to its end, early or not."""
        return self.step >= self.job.settings.steps or self.patience.exhausted

    def advance(self) -> list[Event]:
        """Make one step, with the validation if it is due; what is to be told of it."""
        job, settings = self.job, self.job.settings
        if self.step % job.steps_per_epoch == 0:
            self._begin_epoch()
        self.complete = False
        started = time.perf_counter()
        batch = self.batches.next()
        indices = share(batch, job.groups)
        events: list[Event] = list(self._in_memory(lambda: self._gradients(indices)))
        value, norm = self._figures
        self._check(value, norm, batch)
        rate = self.optimizer.param_groups[0]["lr"]
        self._wrapped.step()
        self.schedule.step()
        self.step += 1
        self.row = {"step": self.step, "loss": value, "learning_rate": rate}
        self.run.row(self.row)
        speed = len(batch) / (time.perf_counter() - started)
        events.append(Step(self.step, settings.steps, value, rate, speed))
        validates = job.validate is not None and (
            self.step % self._every == 0 or self.step == settings.steps
        )
        if validates:
            events += self._validate()
        single = job.steps_per_epoch == 1
        self.landmark = validates if single else self.step % job.steps_per_epoch == 0
        self.complete = True
        return events

    def _begin_epoch(self) -> None:
        job = self.job
        last = (job.settings.steps - 1) // job.steps_per_epoch
        if job.begin_epoch is not None:
            job.begin_epoch(min(1.0, self.step // job.steps_per_epoch / max(1, last)))

    def _gradients(self, indices: np.ndarray) -> None:
        """Forward and backward; the loss and the norm of the gradient are kept."""
        settings = self.job.settings
        self.network.train()
        self._wrapped.zero_grad(set_to_none=True)
        # Parts of the model that a loss calls by themselves take the precision from here.
        with self.fabric.autocast():
            loss = self.job.loss(self.network, indices, self.draws)
        self.fabric.backward(loss)
        norm: Tensor | float | None = 0.0
        if settings.gradient_clip:
            norm = self.fabric.clip_gradients(
                self.network.network,
                self._wrapped,
                max_norm=settings.gradient_clip,
                error_if_nonfinite=False,
            )
        self._figures = float(averaged(loss.detach())), float(norm or 0.0)

    def _in_memory(self, work: Callable[[], None]) -> list[Message]:
        """Do some work, in ever smaller parts of a batch until the memory suffices for it."""
        messages: list[Message] = []
        before = self.draws.get_state(), random_states(self.fabric.device)
        while (error := _attempt(work)) is not None:
            where = f"at step {self.step + 1} with {self.job.settings.batch_size} slices per step"
            if world_size() > 1:
                # The others are in the middle of an exchange, which cannot be taken back.
                raise TrainingError(
                    f"Out of memory {where}; lower the batch size.{self.stands()}"
                ) from error
            if not self.job.splits or self.network.parts >= self.job.settings.batch_size:
                why = "" if self.job.splits else ", which this task cannot take in parts"
                raise TrainingError(
                    f"Out of memory {where}{why}; lower the batch size, or take a smaller network "
                    f"or coarser pixels.{self.stands()}"
                ) from error
            self._wrapped.zero_grad(set_to_none=True)
            del error
            give_back(self.fabric.device)
            self.network.parts *= 2
            self.draws.set_state(before[0])
            set_random_states(before[1], self.fabric.device)
            messages.append(Message(f"Out of memory {where}: {self.in_parts()}."))
        return messages

    def in_parts(self) -> str:
        """Say in how many parts a batch passes through the network, and what that changes."""
        text = f"each batch goes through the network in {self.network.parts} parts"
        if averages_over_batches(self.job.model):
            return f"{text}, and its layers of batch normalisation average over a part"
        return f"{text}, which takes longer and changes no result"

    def _check(self, value: float, norm: float, indices: np.ndarray) -> None:
        # In 16-mixed a gradient may overflow now and then: its scaler skips such a step.
        overflow = not math.isfinite(norm) and self.job.settings.precision != "16-mixed"
        if math.isfinite(value) and not overflow:
            return
        batch = f" The batch was of {self.job.describe(indices)}." if self.job.describe else ""
        raise TrainingError(
            f"The loss became {value} (gradient {norm:g}) at step {self.step + 1}; lower the "
            f"learning rate.{batch}{self.stands()}"
        )

    def _validate(self) -> list[Event]:
        job = self.job
        assert job.validate is not None
        with self.fabric.autocast():
            metrics = evaluate_mode(self._evaluated(), job.validate)
        improved = self.patience.improved(metrics[job.monitor])
        self.schedule.validated(metrics[job.monitor])
        self.run.row({"step": self.step} | {f"validation_{k}": v for k, v in metrics.items()})
        events: list[Event] = [self.save_weights("best", metrics)] if improved else []
        epoch = self.step // job.steps_per_epoch
        events.append(Validation(self.step, epoch, metrics, improved))
        if self.patience.exhausted:
            text = f"Stopped at step {self.step}: the validation no longer improves."
            events.append(Message(text))
        return events

    def _evaluated(self) -> nn.Module:
        """The network to validate: without DDP, whose processes would have to go in step."""
        if world_size() == 1:
            return self.network
        return InParts(self.job.model, self.network.parts)

    def save_weights(self, which: str, metrics: Mapping[str, float]) -> Saved:
        """Write weights alone, such as the best; beside them stands which state goes with them."""
        path = self.run.folder / f"{which}.safetensors"
        state = None if self._saved is None else state_name(self._saved)
        about = {"step": self.step, "metrics": dict(metrics), "state": state}
        on_first(lambda: save_weights(path, self.job.kept or self.job.model, about))
        return Saved(path, self.step)

    def save_last(self) -> Saved:
        """Write the latest weights alone."""
        on_first(self.run.write_metrics)
        return self.save_weights("last", self.row)

    def save(self) -> Saved:
        """Write all that a later process needs to go on from here, and the latest weights."""
        self.pace.begin()
        if self._saved != self.step:
            # First the rows that the state counts, and last what says that there is a state.
            state = self.state()
            on_first(self.run.write_metrics)
            on_first(lambda: write_state(self.run.folder, state))
            self._saved = self.step
        saved = self.save_weights("last", self.row)
        self.pace.end()
        return saved

    def stands(self) -> str:
        """Say which checkpoint is left after an error, if one is."""
        if self._saved is None:
            return ""
        return (
            f" The last checkpoint in {self.run.folder} stands, of step {self._saved}; --resume "
            "goes on from it."
        )

    def state(self) -> State:
        """Take the state: what it holds decides everything that comes."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{k}": v for k, v in self.job.model.state_dict().items()}
        values: dict[str, dict[str, Any]] = {}
        for number, held in optimizer["state"].items():
            for name, value in held.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{number}.{name}"] = value
                else:
                    values.setdefault(str(number), {})[name] = value
        random = {"draws": self.draws.get_state(), **random_states(self.fabric.device)}
        for number, states in enumerate(everyone(random)):
            tensors |= {f"{random_part(number)}.{name}": state for name, state in states.items()}
        numbers = {
            "optimizer": {"groups": optimizer["param_groups"], "values": values},
            "schedule": self.schedule.state_dict(),
            "patience": self.patience.state_dict(),
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
        """Go on from a state, as if there had been no interruption.

        Raises
        ------
        CheckpointError
            If it is of another network, or of other slices.
        """
        numbers = state.numbers
        fill(self.job.model, state.part("model"), self.run.folder)
        held: dict[int, dict[str, Any]] = {
            int(number): dict(values) for number, values in numbers["optimizer"]["values"].items()
        }
        for name, tensor in state.part("optimizer").items():
            number, _, what = name.partition(".")
            held.setdefault(int(number), {})[what] = tensor
        groups = numbers["optimizer"]["groups"]
        self.optimizer.load_state_dict({"state": held, "param_groups": groups})
        self.schedule.load_state_dict(numbers["schedule"])
        self.patience.load_state_dict(numbers["patience"])
        self.fabric.strategy.precision.load_state_dict(dict(numbers["precision"]))
        self.batches.skip_to(numbers["drawn"])
        if json.loads(json.dumps(self.batches.position)) != numbers["sampler"]:
            raise CheckpointError(
                f"The training in {self.run.folder} drew other slices than there are now, so it "
                "cannot go on; give the same scans with the same version, or start again."
            )
        self.network.parts = numbers["parts"]
        self.step, self.row = state.step, dict(numbers["row"])
        self._saved = state.step
        # Its share of the training passed is that of the epoch that it is in.
        self._begin_epoch()
        if numbers.get("processes", 1) == world_size():
            random = state.part(random_part(rank()))
            self.draws.set_state(random.pop("draws"))
            set_random_states(random, self.fabric.device)
        else:
            # Nothing was saved for these processes, and no two of them may draw the same.
            self.draws.manual_seed(process_seed(self.job.settings.seed) + self.step)

    def close(self) -> None:
        """Let go of what the optimiser holds on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()


def give_back(device: torch.device) -> None:
    """Give memory that is no longer used back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def evaluate_mode(
    model: nn.Module, function: Callable[[nn.Module], dict[str, float]]
) -> dict[str, float]:
    """Call ``function`` on the model in evaluation mode, without gradients."""
    model.eval()
    with torch.inference_mode():
        metrics = function(model)
    model.train()
    return metrics


def _attempt(work: Callable[[], None]) -> BaseException | None:
    """Do some work; the error if there is too little memory for it, without what it had in use."""
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # Its frames hold the tensors that fill the memory.
        return error.with_traceback(None)
    return None
