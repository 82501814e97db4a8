"""Image planes: read from headers, with their place in the patient, and sorted by it.

No volumes and no values of pixels.
"""
