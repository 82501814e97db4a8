"""Presets: the settings of published methods, one file for each paper, and their registry.

Running a preset is in ``core.stages``.
"""
