"""The napari plugin: a dock widget of five steps, readers, writers and sample data.

No learning lives here; every computation is a call of ``napari_sslseg.core``.
"""
