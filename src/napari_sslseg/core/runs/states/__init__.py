"""States of a training, from which it is resumed: their content, their files, and their check."""
