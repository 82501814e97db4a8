"""What every room uses: errors, events, files that are written safely, plain sizes.

Nothing here knows of scans, networks or runs.
"""
