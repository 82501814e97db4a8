"""How long tests wait for what must happen."""

LIMIT = 120.0  # Seconds. A promise that is not kept ends a test; a busy machine does not.
