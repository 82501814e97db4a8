"""``python -m napari_sslseg.cli``, the same as the program ``napari-sslseg``."""

from napari_sslseg.cli import main

main()
