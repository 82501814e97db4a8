"""Parts of the label-efficiency benchmark, see ``label_efficiency.py`` in the folder above."""
