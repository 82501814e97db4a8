"""Parts of the benchmark of the window, see ``window.py`` in the folder above."""
