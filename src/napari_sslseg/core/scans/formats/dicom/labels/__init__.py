"""DICOM labels: read and write segmentations (SEG), read structure sets (RTSTRUCT).

DICOM scans are read in the folder above.
"""
