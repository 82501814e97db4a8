"""Learning from labels: augmentation, loss, and what unlabelled slices add.

The training around it is in ``stages.finetune``.
"""
