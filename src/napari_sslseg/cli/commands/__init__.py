"""The commands, one file each: options in, one job of ``core``, its result out.

What several commands share lives in the folder above.
"""
