"""From scans to the slices and crops that a network sees: preprocessing, storing, drawing.

No random change of an image, and no loss, is here.
"""
