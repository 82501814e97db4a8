"""Settings of all stages as frozen data, with all defaults. They are saved with each run.

No computation and no PyTorch here.
"""
