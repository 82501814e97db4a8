"""Train a job from its first step, or from a state, to its end: a generator of events.

A :class:`~napari_sslseg.core.training.job.TrainingJob` provides the network, the batches, the loss
and the validation. The loop provides device, precision, optimiser, schedule, early stopping,
checkpoints, stopping and pausing.
"""

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from napari_sslseg.core.common.compute.devices import empty_device_cache
from napari_sslseg.core.common.compute.distributed import (
    all_gather_objects,
    all_reduce_any,
    is_first,
    is_lost_process,
    run_on_all,
    single_process,
    world_size,
)
from napari_sslseg.core.common.compute.memory import is_out_of_memory
from napari_sslseg.core.common.errors import (
    LostFolderError,
    LostProcessError,
    SslsegError,
    StorageError,
)
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Status, StopFlag
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.runs.states.state import State
from napari_sslseg.core.runs.states.state_files import remove_states
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.job import TrainingError, TrainingJob
from napari_sslseg.core.training.loop import Loop
from napari_sslseg.core.training.memory_probe import find_batch_parts
from napari_sslseg.core.training.watch import Watch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    job: TrainingJob,
    run: RunWriter,
    fabric: "Fabric",
    stop: StopFlag | None = None,
    pause: PauseFlag | None = None,
    state: State | None = None,
    parts: int = 1,
    watch: Watch | None = None,
) -> Generator[Event, None, bool]:
    """Train a model; weights are saved to the run folder, and the model ends with the latest.

    Parameters
    ----------
    job : TrainingJob
        What to train.
    run : RunWriter
        Run folder for checkpoints and metrics.
    fabric : Fabric
        Device and precision.
    stop : StopFlag, optional
        Takes effect after the current step; the state is saved, so that the run can be resumed.
    pause : PauseFlag, optional
        Takes effect after the current step; the state is saved as well.
    state : State, optional
        State to resume from. On the CPU the final weights equal those of a training without
        interruption, bit for bit.
    parts : int
        Number of parts that a batch is divided into, see
        :class:`~napari_sslseg.core.training.batch_parts.InParts`.
    watch : Watch, optional
        Requests previews; there are none where several processes train together.

    Yields
    ------
    Step, Validation, Saved, Status, Preview, Message
        A Message states why the training ended early, if it did, and which settings have no effect
        without a validation. The generator may be closed at any event; the run can be resumed.

    Returns
    -------
    bool
        Whether the training finished; False if it was stopped.

    Raises
    ------
    TrainingError
        If the loss is not finite, or there is too little memory. The last checkpoint remains.
    StorageError
        If the run folder cannot be written. The last checkpoint remains.
    LostFolderError
        If the run folder was deleted, moved or replaced. The state is saved elsewhere.
    """
    loop = Loop(job, run, fabric, parts)
    try:
        if loop.compiled.message is not None:
            yield loop.compiled.message
        if state is not None:
            loop.restore(state)
        elif job.validate is None:
            yield from _report_unused_settings(job.settings)
        due = False
        while not loop.done:
            # A flag that is set in one process takes effect in all.
            stopping, pausing, due, lost = all_reduce_any(
                _is_set(stop), _is_set(pause), due, is_first() and run.lost
            )
            if lost:
                loop.check_folder()
            if due:
                yield loop.save()
            if stopping:
                break
            if pausing and pause is not None:
                yield from _wait(loop, pause, stop)
                continue
            yield from loop.advance()
            due = is_first() and loop.interval.due(loop.landmark)
            if watch is not None and watch.due and world_size() == 1:
                yield from _show(loop, watch)
        yield loop.save_last() if loop.done else loop.save()
        return loop.done
    except (KeyboardInterrupt, GeneratorExit):
        # Within a step the weights are incomplete, so the last state stays. While a state is
        # being restored, nothing may be saved.
        if not loop.ready:
            raise
        try:
            if world_size() > 1:
                # The other processes may be anywhere, so collective operations are impossible.
                with single_process():
                    if is_first():
                        loop.save_last()
            elif loop.complete:
                loop.save()
            else:
                loop.save_last()
        finally:
            run.all_saved = loop.all_saved
        raise
    except LostFolderError:
        raise  # It says where the state was saved.
    except StorageError as error:
        raise StorageError(f"{error}{loop.last_checkpoint()}") from error
    except (MemoryError, RuntimeError) as error:
        if is_lost_process(error):
            raise LostProcessError(
                f"Another of the {world_size()} processes that train together has ended, so this "
                f"one cannot continue; see the messages of that process.{loop.last_checkpoint()}"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"Out of memory at step {loop.step + 1}, outside the forward and backward pass; lower "
            f"the batch size, or use a smaller network.{loop.last_checkpoint()}"
        ) from error
    finally:
        loop.close()


def _wait(loop: Loop, pause: PauseFlag, stop: StopFlag | None) -> Iterator[Event]:
    """Save the state, and wait until the pause ends."""
    yield loop.save()
    yield Message(f"Paused after step {loop.step}; the state is saved.")
    yield Status("paused", loop.step)
    while all_reduce_any(pause.is_set and not _is_set(stop))[0]:
        pause.wait()
    if stop is None or not stop.is_set:
        yield Message(f"Continuing after step {loop.step}.")
        yield Status("running", loop.step)


def _show(loop: Loop, watch: Watch) -> Iterator[Event]:
    """Make a preview, and measure how long it takes."""
    began = time.monotonic()
    yield from loop.show()
    watch.shown(time.monotonic() - began)


def _is_set(flag: StopFlag | PauseFlag | None) -> bool:
    return flag is not None and flag.is_set


def _report_unused_settings(settings: Training) -> Iterator[Message]:
    """Report settings that have no effect without a validation."""
    unused = ["the schedule plateau"] if settings.schedule == "plateau" else []
    unused += ["early stopping"] if settings.early_stopping else []
    if unused:
        yield Message(
            f"There is no validation, so {' and '.join(unused)} cannot take effect; hold out some "
            "subjects for validation."
        )


def run_job(
    job: TrainingJob,
    run: RunWriter,
    fabric: "Fabric",
    stop: StopFlag | None = None,
    pause: PauseFlag | None = None,
    state: State | None = None,
    watch: Watch | None = None,
) -> Generator[Event, None, None]:
    """Train as :func:`train` does, record the result, and yield Done with the Run.

    The memory of a step is estimated before the training; the memory of the device is freed after
    it.
    """
    status, problem = "failed", {}
    try:
        parts = 1
        if state is None:
            plan = run_on_all(lambda: find_batch_parts(job, fabric))
            parts = max(all_gather_objects(plan.parts))
            if plan.message:
                yield Message(plan.message)
        done = yield from train(job, run, fabric, stop, pause, state, parts, watch)
        status = "finished" if done else "stopped"
    except (KeyboardInterrupt, GeneratorExit):
        status = "stopped" if run.all_saved else "interrupted"
        raise
    except SslsegError as error:
        problem = {"problem": str(error)}
        raise
    finally:
        job.model.cpu()
        empty_device_cache(fabric.device)
        try:
            result = run.finish(status, **problem)
        except StorageError:
            # On a full disk the first error is more informative.
            if status != "failed":
                raise
    if status == "finished" and is_first():
        remove_states(run.folder)
    yield Done(result, stopped=status == "stopped")
