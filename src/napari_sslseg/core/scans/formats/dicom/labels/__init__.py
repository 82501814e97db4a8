"""Labels in DICOM: SEG is read and written, RTSTRUCT is read.

Scans are read one floor up.
"""
