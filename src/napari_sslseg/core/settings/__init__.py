"""All settings as frozen data, with every default: saved with each run, and enough to rebuild it.

Nothing here computes, and nothing loads PyTorch.
"""
