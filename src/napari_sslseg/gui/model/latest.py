"""Work in a thread of which the latest request alone matters, such as a preview."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.gui.model.jobs import MEMORY, UNKNOWN, Problem, give_way, out_of_memory

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Answer(Generic[Request, Result]):
    """What came of a request: a result, or a problem and the error behind it."""

    request: Request
    result: Result | None = None
    problem: Problem | None = None
    error: Exception | None = None


class Latest(Generic[Request, Result]):
    """Does some work in a thread; a request that waits makes room for the next one.

    Answers come in the order of the requests, the last one always.

    Parameters
    ----------
    work : callable
        From a request to its result; called in one thread at a time.
    """

    def __init__(self, work: Callable[[Request], Result]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._waiting: list[Request] = []
        self._answers: list[Answer[Request, Result]] = []
        self._working = False

    @property
    def busy(self) -> bool:
        """Whether an answer is to come, or was not taken yet."""
        with self._lock:
            return self._working or bool(self._answers)

    def ask(self, request: Request) -> None:
        """Ask for something; what waits is forgotten, what is being done is finished."""
        with self._lock:
            self._waiting = [request]
            if not self._working:
                self._working = True
                # A daemon: closing the window ends the program whatever is being done.
                threading.Thread(target=self._run, name="sslseg-latest", daemon=True).start()

    def take(self) -> Answer[Request, Result] | None:
        """Give the newest answer that was not taken yet, if there is one; without waiting."""
        with self._lock:
            answers, self._answers = self._answers, []
        return answers[-1] if answers else None

    def _run(self) -> None:
        give_way()
        while True:
            with self._lock:
                if not self._waiting:
                    # Within the lock, so that no request comes between the look and the end.
                    self._working = False
                    return
                request = self._waiting.pop()
            answer = self._answer(request)
            with self._lock:
                self._answers = [answer]

    def _answer(self, request: Request) -> Answer[Request, Result]:
        try:
            return Answer(request, self._work(request))
        except Exception as error:  # noqa: BLE001  # A request without an answer waits for ever.
            sentence = UNKNOWN.format(kind=type(error).__name__)
            if isinstance(error, SslsegError):
                sentence = str(error)
            elif out_of_memory(error):
                sentence = MEMORY
            return Answer(request, None, Problem(sentence, traceback.format_exc()), error)
