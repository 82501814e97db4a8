"""The program ``napari-sslseg``: its commands, in the order of ``--help``."""

import sys
from typing import Annotated

import typer

from napari_sslseg.cli.commands.demo import demo
from napari_sslseg.cli.commands.evaluate import evaluate
from napari_sslseg.cli.commands.export import export
from napari_sslseg.cli.commands.finetune import finetune
from napari_sslseg.cli.commands.gui import gui
from napari_sslseg.cli.commands.import_weights import import_weights
from napari_sslseg.cli.commands.predict import predict
from napari_sslseg.cli.commands.presets import presets
from napari_sslseg.cli.commands.pretrain import pretrain
from napari_sslseg.cli.commands.preview import preview
from napari_sslseg.cli.commands.runs import runs
from napari_sslseg.cli.commands.series import series
from napari_sslseg.cli.exit_codes import run_app
from napari_sslseg.cli.interrupts import leave_on_interrupt, raise_on_interrupt

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import napari_sslseg

        print(napari_sslseg.__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Few-shot segmentation of MR and CT.

    Pretrain on unlabelled scans, fine-tune on a few labelled slices, predict, evaluate.
    """


app.command()(demo)
app.command()(pretrain)
app.command()(finetune)
app.command()(predict)
app.command()(evaluate)
app.command()(gui)
app.command()(presets)
app.command()(preview)
app.command()(series)
app.command()(export)
# A second folder is refused with a word about --compare.
app.command(context_settings={"allow_extra_args": True})(runs)
app.command("import-weights")(import_weights)


def main() -> None:
    """Entry point of the program; ends the process with one of its exit codes."""
    raise_on_interrupt()
    code = run_app(app)
    leave_on_interrupt()
    sys.exit(code)
