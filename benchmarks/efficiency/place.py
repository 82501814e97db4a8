"""Folders, threads and device of a benchmark. Loads no PyTorch, so the parent starts quickly."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Folders, threads and device, which are not part of the hash of a cell."""

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
