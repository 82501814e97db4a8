"""Every stroke reaches the disk: keeping, copying and rescuing labels.

No panel is here.
"""
