"""Parts of the label-efficiency benchmark, see ``label_efficiency.py`` beside this folder."""
