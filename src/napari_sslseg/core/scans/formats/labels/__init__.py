"""What label files of all formats share: overlapping structures, and checks of values and grid.

Readers of formats are in the folder above.
"""
