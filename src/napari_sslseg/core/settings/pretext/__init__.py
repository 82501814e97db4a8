"""Settings of the pretext tasks: one file for each task, and the registry of all tasks.

The tasks themselves are in ``core.pretext``.
"""
