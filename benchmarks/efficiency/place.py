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

    def pretrained(self, name: str) -> Path:
        """Run folder of a stage of a pretraining."""
        return self.out / "pretrained" / name

    def finetuned(self, name: str) -> Path:
        """Run folder of a fine-tuning."""
        return self.out / "finetuned" / name
