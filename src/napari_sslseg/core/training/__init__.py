"""The one training loop: schedules, gradients, early stopping, live pictures.

What to train is given as a ``TrainingJob``; tasks are in ``pretext`` and ``segmentation``.
"""
