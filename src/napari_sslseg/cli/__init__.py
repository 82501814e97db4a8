"""The command line: options, messages and exit codes around the jobs of ``core``.

Nothing is computed here, and nothing of ``gui`` is imported but to open the window.
"""


def main() -> None:
    """Entry point of the program ``napari-sslseg``."""
    from napari_sslseg.cli.app import main

    main()
