"""Step 5, Inspect: predictions of runs, their scores, corrections and export.

Not here: computing and caching predictions (``gui/model``), and their layers (``gui/viewer``).
"""
