"""Training on labels: augmentation, loss, validation, and the use of unlabelled slices.

A whole fine-tuning run is in ``stages.finetune``.
"""
