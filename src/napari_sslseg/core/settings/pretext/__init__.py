"""Settings of the pretext tasks: one file for each task, and the registry of all of them.

What a task does to images is in ``core.pretext``.
"""
