"""Validate every public docstring by numpydoc; the checks stand in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    files = sorted(
        str(p.relative_to(ROOT)) for room in ("pipeline", "transforms", "finetune") for p in (ROOT / room).rglob("*.py")
    )
    return subprocess.run(
        [sys.executable, "-m", "numpydoc.hooks.validate_docstrings", *files], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
