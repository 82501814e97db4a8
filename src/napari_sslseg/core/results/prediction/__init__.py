"""Parts of a prediction: volumes in crops, augmented views, its memory, and which are complete.

Not here: scores, and the prediction itself, which is in predict.py.
"""
