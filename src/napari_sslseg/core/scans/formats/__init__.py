"""File formats: one module each, and ``registry``, the table of all formats.

What a volume means as a scan or label map is decided in ``scans``.
"""
