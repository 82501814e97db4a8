"""What distinguishes the volumes of one DICOM series: entries of the headers, and the division.

Not the geometry of planes, which is next door.
"""
