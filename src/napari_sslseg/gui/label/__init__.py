"""Step 3, Label: structures, drawing tools, and which slices are done.

Not here: the labels layer (``gui/viewer``) and how labels are saved (``gui/autosave``).
"""
