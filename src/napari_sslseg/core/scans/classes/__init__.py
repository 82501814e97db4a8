"""What label values mean: the structures that files name, and their match to classes.

Label maps themselves are read in the folder above.
"""
