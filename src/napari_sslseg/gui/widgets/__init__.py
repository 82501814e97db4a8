"""Qt widgets for more than one panel: forms, plots, dialogs, boxes.

They know neither the session nor the viewer.
"""
