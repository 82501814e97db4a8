"""The state of the window, without Qt: session, background jobs, runs and predictions.

Panels read it and call it; no panel and no napari viewer is imported here.
"""
