"""The command line: reads options, drains the jobs of ``core``, prints, sets exit codes.

Nothing is computed here, and ``gui`` is never imported but to open the window.
"""
