"""Look up the versions of requirements.lock in PyPI's vulnerability data: `make audit`.

pip-audit calls it a success when it could look up nothing, as behind a mirror that has packages
and no vulnerability data. So its JSON is read here: exit code 0 means that every pin was looked up
and none is known to be vulnerable, 1 that some are, 3 that some or all could not be looked up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOUND, VULNERABLE, UNKNOWN = 0, 1, 3
OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", "--timeout=20")


def main() -> int:
    """Run pip-audit and say in one line what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", help="the program pip-audit")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    chosen = parser.parse_args()
    command = [chosen.tool, *OPTIONS, "-r", str(chosen.lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, text = verdict(done.stdout, done.stderr)
    print(text, file=sys.stderr if code else sys.stdout)
    return code


def verdict(output: str, complaint: str) -> tuple[int, str]:
    """Return the exit code and the lines to print, from what pip-audit wrote."""
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (complaint.strip().splitlines() or ["it wrote nothing"])[-1]
        return UNKNOWN, f"audit: nothing was looked up, pip-audit failed: {last}"
    skipped = [entry["name"] for entry in found if "skip_reason" in entry]
    if len(skipped) == len(found):
        return UNKNOWN, (
            f"audit: the vulnerability data could not be reached; none of {len(found)} packages "
            "was looked up. Run `make audit` where pypi.org answers."
        )
    lines = [
        f"audit: {entry['name']} {entry['version']} has {known['id']}, fixed in "
        f"{', '.join(known['fix_versions']) or 'no version'}"
        for entry in found
        for known in entry.get("vulns", [])
    ]
    if lines:
        return VULNERABLE, "\n".join(lines)
    if skipped:
        return UNKNOWN, (
            f"audit: {len(skipped)} of {len(found)} packages could not be looked up: "
            f"{', '.join(skipped)}. The others have no known vulnerability."
        )
    return SOUND, f"audit: {len(found)} packages, none with a known vulnerability"


if __name__ == "__main__":
    sys.exit(main())
