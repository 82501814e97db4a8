"""Step 1, Scans: the project, its list of scans, and how the current scan is shown.

Not here: what a project stores (``core/project``) and the image layers (``gui/viewer``).
"""
