"""What the user draws: which value, on which layer, and what strokes may not change.

How layers look, and when labels are saved, does not belong here.
"""
