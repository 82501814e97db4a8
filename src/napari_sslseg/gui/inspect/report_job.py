"""Job that writes the scores of one or two runs as a web page with pictures. Needs no Qt."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import DataError, SslsegError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Progress, StopFlag
from napari_sslseg.core.project.record import UNKNOWN_COLOUR, UNKNOWN_VALUE
from napari_sslseg.gui.inspect.export_job import Events
from napari_sslseg.gui.inspect.score_rows import (
    ORDER,
    UNBIASED,
    Scored,
    accepted_among,
    removed_words,
    uses_of,
    verdict,
)
from napari_sslseg.gui.model.jobs import Tally
from napari_sslseg.gui.model.predictions import open_run, predict_scan, run_folder
from napari_sslseg.gui.model.run_descriptions import USE_HINTS, USE_WORDS, long_description

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.results.html_report import ScanReport
    from napari_sslseg.gui.model.predictions import Predicted
    from napari_sslseg.gui.model.session import Session


def report(session: "Session", run: str, path: Path, other: str = "") -> Events | None:
    """Return the job that writes the report of a run on all scans with done slices.

    Parameters
    ----------
    session : Session
        Session whose project is used.
    run : str
        Name of the run.
    path : Path
        File of the web page.
    other : str
        Name of a run to compare with; empty for none.
    """
    project = session.project
    if project is None:
        return None
    names = [scan.name for scan in project.record.scans if scan.done]
    runs = [run, other] if other else [run]
    ready = {(of, name): session.predictions.get(of, name) for of in runs for name in names}

    def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
        if not names:
            raise DataError("No slice is done, so there is nothing to score; mark one as done.")
        page = _Page(project, runs, ready)
        failures: list[tuple[str, str]] = []
        for number, name in enumerate(page.ordered(names)):
            if stop.is_set:
                yield Done(None, stopped=True)
                return
            yield Progress("Writing the report", number, len(names))
            try:
                page.add(name)
            except SslsegError as error:
                failures.append((name, str(error)))
        page.write(path)
        yield Progress("Writing the report", len(names), len(names))
        yield Message(f"The report is {path}.")
        yield Done(Tally("scored", len(names) - len(failures), len(names), tuple(failures)))

    return events


class _Page:
    """Content of the page, built scan by scan."""

    def __init__(
        self, project: "Project", runs: list[str], ready: dict[tuple[str, str], "Predicted | None"]
    ) -> None:
        self.project, self.runs, self._ready = project, runs, ready
        self.uses = {run: uses_of(project, run) for run in runs}
        self.colours = {item.value: item.colour for item in project.classes}
        self.colours[UNKNOWN_VALUE] = UNKNOWN_COLOUR
        self.scored: dict[str, list[Scored]] = {run: [] for run in runs}
        self.scans: list[ScanReport] = []
        self._segmenters: dict[str, Any] = {}
        self._removed: dict[str, set[int]] = {run: set() for run in runs}

    def ordered(self, names: list[str]) -> list[str]:
        """Sort the scans, those with the most informative scores first."""
        return sorted(names, key=lambda name: ORDER.index(self.uses[self.runs[0]][name]))

    def add(self, name: str) -> None:
        """Score a scan for all runs, and draw its pictures."""
        from napari_sslseg.core.results.html_report import RunScores, scan_report
        from napari_sslseg.core.results.slice_scores import score_slices

        project, done = self.project, self.project.done(name)
        scan, truth = project.load(name), project.labels(name, seen=False).data
        scored, predicted, volumes = [], {}, {}
        for run in self.runs:
            found = self._predicted(run, name)
            predicted[run] = found.labels_of(project.class_names)
            volumes[run] = found.volumes()
            self._removed[run] |= set(volumes[run])
            scores = score_slices(
                predicted[run], truth, done, plane=project.plane, spacing=scan.spacing,
                name=name, subject=project.entry(name).subject,
                ignore=UNKNOWN_VALUE, labelled_classes=project.labelled_classes(name),
            )  # fmt: skip
            accepted = accepted_among(project, name, scores.slices, run)
            scored.append(
                Scored(name, self.uses[run][name], scores, accepted, volumes=volumes[run])
            )
        maps = predicted if len(self.runs) > 1 else {"prediction": predicted[self.runs[0]]}
        drawn = scan_report(
            scan, truth, maps,
            [
                RunScores(
                    item.scores, USE_WORDS[item.use],
                    item.use in UNBIASED and not item.accepted.count,
                    item.volumes,
                )
                for item in scored
            ],
            plane=project.plane, colours=self.colours,
            accepted=scored[0].accepted.count,
        )  # fmt: skip
        self.scans.append(drawn)
        for run, item in zip(self.runs, scored, strict=True):
            self.scored[run].append(item)

    def write(self, path: Path) -> None:
        """Write the page."""
        from napari_sslseg.core.results.html_report import RunReport, write_report
        from napari_sslseg.core.runs.listing import summarise

        project = self.project
        folder = run_folder(project, self.runs[0]).parent
        about = [
            RunReport(
                run,
                long_description(summarise(folder / run, folder)),
                verdict(project.class_names, self.scored[run])
                + removed_words(project, run, self._removed[run]),
            )
            for run in self.runs
        ]
        write_report(
            path, f"Scores of {' and '.join(self.runs)}", about, self.scans,
            names=project.class_names, colours=self.colours,
            uses={USE_WORDS[use]: USE_HINTS[use] for use in ORDER},
        )  # fmt: skip

    def _predicted(self, run: str, name: str) -> "Predicted":
        found = self._ready.pop((run, name))
        if found is None:
            if run not in self._segmenters:
                self._segmenters[run] = open_run(self.project, run)
            found = predict_scan(self.project, self._segmenters[run], name)
        return found
