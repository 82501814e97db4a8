"""The one training loop: a generator of events over Lightning Fabric.

What is trained is told apart from how: a :class:`~napari_sslseg.core.training.job.Job` brings the
network, the slices, the loss and the validation; the loop brings the device and its precision, the
optimiser, the schedule, early stopping, checkpoints, and the flags to stop and to pause.
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
from napari_sslseg.core.common.errors import LostProcessError, SslsegError, StorageError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Status, StopFlag
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.runs.state import State
from napari_sslseg.core.runs.state_files import remove_states
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.job import Job, TrainingError
from napari_sslseg.core.training.loop import Loop
from napari_sslseg.core.training.memory_probe import find_batch_size
from napari_sslseg.core.training.watch import Watch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    job: Job,
    run: RunWriter,
    fabric: "Fabric",
    stop: StopFlag | None = None,
    pause: PauseFlag | None = None,
    state: State | None = None,
    parts: int = 1,
    watch: Watch | None = None,
) -> Generator[Event, None, bool]:
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
        Takes effect after the current step; all that is needed to go on later is saved.
    pause : PauseFlag, optional
        Takes effect after the current step, likewise.
    state : State, optional
        To go on from; on the CPU the weights at the end are those of a training without
        interruption, bit for bit.
    parts : int
        In how many parts a batch passes through the network, see
        :class:`~napari_sslseg.core.training.gradients.InParts`.
    watch : Watch, optional
        What to show now and then; nothing where several processes train together.

    Yields
    ------
    Step, Validation, Saved, Status, Preview, Message
        A Message says why the training ended early, if it did, and what cannot work without a
        validation. At each of them the training can be left, and gone on with later.

    Returns
    -------
    bool
        Whether it came to its end, and was not stopped.

    Raises
    ------
    TrainingError
        If the loss is not finite, or the memory does not suffice; the last checkpoint stands.
    StorageError
        If the run folder cannot be written; the last checkpoint stands.
    """
    loop = Loop(job, run, fabric, parts)
    try:
        if loop.compiled.message is not None:
            yield loop.compiled.message
        if state is not None:
            loop.restore(state)
        elif job.validate is None:
            yield from _missed(job.settings)
        due = False
        while not loop.done:
            # Processes that train together do alike whatever one of them is told.
            stopping, pausing, due = all_reduce_any(_is_set(stop), _is_set(pause), due)
            if due:
                yield loop.save()
            if stopping:
                break
            if pausing and pause is not None:
                yield from _paused(loop, pause, stop)
                continue
            yield from loop.advance()
            due = is_first() and loop.pace.due(loop.landmark)
            if watch is not None and watch.due and world_size() == 1:
                yield from _shown(loop, watch)
        yield loop.save_last() if loop.done else loop.save()
        return loop.done
    except (KeyboardInterrupt, GeneratorExit):
        # In the middle of a step the weights are those of no step, so the last state stands; and so
        # does all in the middle of going back to one.
        if not loop.ready:
            raise
        if world_size() > 1:
            # Other processes may be elsewhere, so that nothing can be asked of them.
            with single_process():
                if is_first():
                    loop.save_last()
        elif loop.complete:
            loop.save()
        else:
            loop.save_last()
        raise
    except StorageError as error:
        raise StorageError(f"{error}{loop.stands()}") from error
    except (MemoryError, RuntimeError) as error:
        if is_lost_process(error):
            raise LostProcessError(
                f"Another of the {world_size()} processes that train together has ended, so that "
                f"this one cannot go on; see what that one said.{loop.stands()}"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"Out of memory at step {loop.step + 1}, beside forward and backward; lower the batch "
            f"size, or take a smaller network.{loop.stands()}"
        ) from error
    finally:
        loop.close()


def _paused(loop: Loop, pause: PauseFlag, stop: StopFlag | None) -> Iterator[Event]:
    """Save, and sleep until the pause is over."""
    yield loop.save()
    yield Message(f"Paused after step {loop.step}; all is saved.")
    yield Status("paused", loop.step)
    while all_reduce_any(pause.is_set and not _is_set(stop))[0]:
        pause.wait()
    if stop is None or not stop.is_set:
        yield Message(f"Going on after step {loop.step}.")
        yield Status("running", loop.step)


def _shown(loop: Loop, watch: Watch) -> Iterator[Event]:
    """Show what is watched, and take in how long that took."""
    began = time.monotonic()
    yield from loop.show()
    watch.shown(time.monotonic() - began)


def _is_set(flag: StopFlag | PauseFlag | None) -> bool:
    return flag is not None and flag.is_set


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
    job: Job,
    run: RunWriter,
    fabric: "Fabric",
    stop: StopFlag | None = None,
    pause: PauseFlag | None = None,
    state: State | None = None,
    watch: Watch | None = None,
) -> Generator[Event, None, None]:
    """Train as :func:`train` does, record how it ended, and yield Done with the Run at last.

    Before the training begins, the memory is tried or estimated; afterwards that of the device is
    given back.
    """
    status, problem = "failed", {}
    try:
        parts = 1
        if state is None:
            plan = run_on_all(lambda: find_batch_size(job, fabric))
            parts = max(all_gather_objects(plan.parts))
            if plan.message:
                yield Message(plan.message)
        done = yield from train(job, run, fabric, stop, pause, state, parts, watch)
        status = "finished" if done else "stopped"
    except (KeyboardInterrupt, GeneratorExit):
        status = "stopped"
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
            # On a full disk the first sentence says more.
            if status != "failed":
                raise
    if status == "finished" and is_first():
        remove_states(run.folder)
    yield Done(result, stopped=status == "stopped")
