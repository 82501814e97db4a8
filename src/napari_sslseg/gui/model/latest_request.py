"""A worker thread that answers only the latest of several requests, such as previews."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.gui.model.jobs import Problem, lower_priority, unexpected

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Answer(Generic[Request, Result]):
    """The answer to a request: a result, or a problem and the error that caused it."""

    request: Request
    result: Result | None = None
    problem: Problem | None = None
    error: Exception | None = None


class LatestRequestWorker(Generic[Request, Result]):
    """Answers requests in a thread; a new request replaces the one that is waiting.

    Answers come in the order of the requests. The last request is always answered.

    Parameters
    ----------
    work : callable
        Computes the result of a request. Only one thread calls it at a time.
    """

    def __init__(self, work: Callable[[Request], Result]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._waiting: list[Request] = []
        self._answers: list[Answer[Request, Result]] = []
        self._working = False

    @property
    def busy(self) -> bool:
        """Whether an answer is being computed or has not been fetched."""
        with self._lock:
            return self._working or bool(self._answers)

    def ask(self, request: Request) -> None:
        """Submit a request. It replaces the waiting one; the one at work is finished."""
        with self._lock:
            self._waiting = [request]
            if not self._working:
                self._working = True
                # A daemon, so that closing the window ends the program at any time.
                threading.Thread(target=self._run, name="sslseg-latest", daemon=True).start()

    def take(self) -> Answer[Request, Result] | None:
        """Return the newest answer that was not fetched yet, or None; does not wait."""
        with self._lock:
            answers, self._answers = self._answers, []
        return answers[-1] if answers else None

    def _run(self) -> None:
        lower_priority()
        while True:
            with self._lock:
                if not self._waiting:
                    # Inside the lock, so that no request arrives between the check and the end.
                    self._working = False
                    return
                request = self._waiting.pop()
            answer = self._answer(request)
            with self._lock:
                self._answers = [answer]

    def _answer(self, request: Request) -> Answer[Request, Result]:
        try:
            return Answer(request, self._work(request))
        except Exception as error:  # noqa: BLE001  # Without an answer the caller waits forever.
            sentence = str(error) if isinstance(error, SslsegError) else unexpected(error)
            return Answer(request, None, Problem(sentence, traceback.format_exc()), error)
