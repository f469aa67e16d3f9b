"""The audit never takes silence for good news."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI"}
GOOD = {"name": "scipy", "version": "1.0", "vulns": []}
BAD = {
    "name": "torch",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
CASES = {
    "sound": ([GOOD, GOOD], 0, "audit: 2 packages, none with a known vulnerability"),
    "vulnerable": ([GOOD, BAD], 1, "torch 2.0 has PYSEC-1, fixed in 2.1"),
    "both": ([SKIPPED, BAD], 1, "torch 2.0 has PYSEC-2, fixed in no version"),
    "some": ([GOOD, SKIPPED], 3, "1 of 2 packages could not be looked up: numpy."),
    "none": ([SKIPPED, SKIPPED], 3, "could not be reached; none of 2 packages was looked up"),
    "empty": ([], 3, "could not be reached; none of 0 packages"),
    "failed": (None, 3, "nothing was looked up, pip-audit failed: ConnectionError: no route"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_not_looked_up_does_not_pass(name: str, tmp_path: Path) -> None:
    found, code, text = CASES[name]
    tool = tmp_path / "pip-audit"  # answers as the real one does, which would need the network
    answer = "" if found is None else json.dumps({"dependencies": found, "fixes": []})
    script = tmp_path / "answer.py"
    script.write_text(
        f"import sys\nassert sys.argv[-1].endswith('requirements.lock')\n"
        f"print({answer!r})\nprint('Traceback\\nConnectionError: no route', file=sys.stderr)\n"
    )
    # Not Python itself in the first line: a folder's name may have spaces.
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "{script}" "$@"\n')
    tool.chmod(0o755)
    command = [sys.executable, str(ROOT / "tools" / "audit.py"), str(tool)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert text in (done.stdout if code == 0 else done.stderr)
    assert "Traceback" not in done.stderr
