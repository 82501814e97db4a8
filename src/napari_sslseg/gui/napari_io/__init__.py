"""Entry points of napari for files: readers, writers and sample data.

Reading and writing of formats lives in ``core.scans``.
"""
