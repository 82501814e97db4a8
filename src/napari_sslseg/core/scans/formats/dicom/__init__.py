"""DICOM: which files form a series, and how they become one array.

Segmentations and contours are in ``labels``.
"""
