"""Where a benchmark runs. Loads no PyTorch, so that who only hands out work starts at once."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where things are and on what they run; none of it is in the hash of a cell."""

    data: Path
    out: Path
    threads: int = 1
    device: str = "cpu"

    def record(self, name: str) -> Path:
        """File that says that a stage of a pretraining is done."""
        return self.out / "pretrained" / f"{name}.json"
