"""From the words of the command line to a run that goes on."""

import json
from pathlib import Path
from typing import Any

from napari_sslseg.cli.console import follow, say
from napari_sslseg.core.common.compute.distributed import is_first
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import StopFlag


def refuse_with_resume(*options: object) -> None:
    """Refuse options that a run brings with it; those not given are None."""
    if any(option is not None for option in options):
        raise ConfigError(
            "With --resume the run goes on by its own settings; give the scans (with --masks, "
            "--labels or --unlabelled), --out, --init, --cache, --device, --devices, --nodes and "
            "--threads alone."
        )


def resume_pretrain(
    images: list[Path],
    masks: Path | None,
    out: Path,
    init: Path | None,
    cache: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Go on with a pretraining, of one stage or of several."""
    from napari_sslseg.core.scans.sources import collect_scans, with_masks
    from napari_sslseg.core.stages.preset import iter_pretrain_preset

    scans = collect_scans(images)
    stop = StopFlag()
    events = iter_pretrain_preset(
        with_masks(scans, masks) if masks else scans,
        out=out,
        init=init,
        cache=cache,
        device=device,
        threads=threads,
        stop=stop,
        resume=True,
    )
    run = follow(events, stop)
    preset = (run.record.get("settings") or {}).get("preset")
    following = f"finetune --images … --labels … --init {out} --out …"
    finish(run, as_json, following + (f" --preset {preset}" if preset else ""))


def resume_finetune(
    images: Path,
    labels: Path,
    unlabelled: list[Path] | None,
    out: Path,
    init: str,
    cache: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Go on with a fine-tuning."""
    from napari_sslseg.core.scans.labelled import pair_scans
    from napari_sslseg.core.stages.finetune import iter_finetune

    stop = StopFlag()
    events = iter_finetune(
        pair_scans(images, labels, every_image=False),
        unlabelled=unlabelled or (),
        init=init,
        out=out,
        cache=cache,
        device=device,
        threads=threads,
        stop=stop,
        resume=True,
    )
    finish(follow(events, stop), as_json, f"predict {out} … --out …")


def finish(run: Any, as_json: bool, following: str) -> None:
    """Print the run as JSON, or where it is and what to do with it."""
    if not is_first():
        return
    if as_json:
        print(json.dumps({"run": str(run.folder), **run.record}))
    else:
        say(f"Run: {run.folder}. Next: napari-sslseg {following}")
