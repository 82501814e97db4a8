"""Pin the newest versions of all packages in the development environment.

Resolves all extras of the Makefile without installing anything and writes constraints.txt. PyTorch
stays at the version pinned there; change that line by hand to move it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
HEADER = """\
# Versions that the Makefile installs, on Python 3.11 and newer; `make constraints` renews them.
"""
# Dependencies of the CUDA builds of PyTorch only, different for each build.
CUDA = re.compile(r"(nvidia|cuda)-|triton$")


def resolve(torch: str) -> dict[str, str]:
    """Newest compatible versions, by project name."""
    command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", f"torch=={torch}", f"{ROOT}[dev,bench]"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = (item["metadata"] for item in report["install"])
    return {re.sub(r"[-_.]+", "-", p["name"]).lower(): p["version"] for p in packages}


def main() -> None:
    """Write constraints.txt."""
    pinned = re.search(r"^torch==(.+)$", FILE.read_text(), re.MULTILINE)
    if pinned is None:
        sys.exit(f"{FILE.name} has no line torch==VERSION; add it.")
    versions = resolve(pinned[1])
    lines = [
        f"{name}=={version.partition('+')[0]}\n"
        for name, version in sorted(versions.items())
        if name != "napari-sslseg" and not CUDA.match(name)
    ]
    FILE.write_text(HEADER + "".join(lines))
    print(f"{FILE.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
