"""The pretext tasks: how each corrupts or pairs images, its loss, and its previews.

Settings of the tasks are in ``core.settings.pretext``, the pretraining is in ``core.stages``.
"""
