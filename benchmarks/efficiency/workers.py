"""Processes that run cells; if one fails, only its current cell is lost."""

import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from efficiency.cells import Cell
from efficiency.place import Place
from efficiency.rows import append_row
from efficiency.shared_runs import is_complete

Report = Callable[[Cell, dict | None], None]


def run_cells(
    cells: Sequence[Cell], place: Place, results: Path, jobs: int, report: Report
) -> list[Cell]:
    """Run cells in ``jobs`` processes; each row is saved before it is reported.

    Returns
    -------
    list of Cell
        Cells that failed; their errors are printed on standard error.
    """
    waiting = list(cells)
    failed: list[Cell] = []
    idle: list[tuple[BaseProcess, Connection]] = []
    busy: dict[Connection, tuple[BaseProcess, Cell]] = {}
    try:
        while waiting or busy:
            while len(busy) < jobs and (number := _next(waiting, busy, place)) is not None:
                process, line = idle.pop() if idle else _start(place, results)
                cell = waiting.pop(number)
                busy[line] = process, cell
                line.send(cell)
            for line in wait(list(busy)):
                assert isinstance(line, Connection)
                process, cell = busy.pop(line)
                try:
                    row = line.recv()
                except EOFError:
                    # The process has ended; a new one takes the next cell.
                    process.join()
                    failed.append(cell)
                    report(cell, None)
                else:
                    idle.append((process, line))
                    report(cell, row)
    finally:
        for process in [one for one, _ in idle] + [one for one, _ in busy.values()]:
            process.terminate()
            process.join()
    return failed


def _next(waiting: list[Cell], busy: dict, place: Place) -> int | None:
    """Find the first cell that needs no run that another process is working on."""
    taken = {run for _, cell in busy.values() for run in _runs(cell, place)}
    taken = {run for run in taken if not is_complete(run)}
    return next((i for i, cell in enumerate(waiting) if not taken & _runs(cell, place)), None)


def _runs(cell: Cell, place: Place) -> set[Path]:
    """Folders of the runs of a cell, which other cells may share."""
    fit = {place.finetuned(cell.fit_hash)} if cell.arm.method == "core" else set()
    return fit | {place.pretrained(name) for name in cell.stage_hashes()}


def _start(place: Place, results: Path) -> tuple[BaseProcess, Connection]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, place, results), daemon=False)
    process.start()
    theirs.close()
    return process, ours


def _work(line: Connection, place: Place, results: Path) -> None:
    # Ctrl-C is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Loads PyTorch.
    from efficiency.work import run_cell

    while True:
        cell = line.recv()
        # An error ends this process, with a traceback on standard error.
        row = run_cell(cell, place)
        append_row(results, row)
        line.send(row)
