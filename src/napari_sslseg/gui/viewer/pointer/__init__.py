"""What the mouse shows and does over the picture: the value below it, the help line of its tool.

Not here: layers of the scan and its intensity window (``gui/viewer``).
"""
