"""One file for each file format, and ``dispatch``, which chooses among them.

What a scan means is decided one floor up, in ``scans``.
"""
