"""Command line: options, messages and exit codes around the jobs of ``core``; one file per command.

No algorithms here, and nothing from ``gui`` except to open the window.
"""


def main() -> None:
    """Entry point of the program ``napari-sslseg``."""
    from napari_sslseg.cli.interrupts import leave_on_interrupt

    leave_on_interrupt()
    from napari_sslseg.cli.app import main

    main()
