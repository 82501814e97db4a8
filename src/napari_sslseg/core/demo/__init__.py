"""The demonstration and its data: phantoms, and what is downloaded.

Nothing but the command line, the window's samples and scripts asks for it.
"""
