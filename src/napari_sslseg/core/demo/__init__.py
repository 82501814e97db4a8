"""The demonstration, and its data: procedural phantoms and public downloads.

No method lives here; used by the command line, sample data and scripts only.
"""
