"""Step 2, Pretrain: task, settings, preview, live pictures."""
