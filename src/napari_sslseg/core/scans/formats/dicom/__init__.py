"""DICOM scans: sort files into series, and read a series as one array.

Segmentations and contours are in ``labels``.
"""
