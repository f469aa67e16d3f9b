"""The table of numeric environments, and how their reports are read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import portable
import pytest

REPORT = """
....F                                                                    [100%]
=========================== short test summary info ============================
FAILED tests/test_a.py::test_b - AssertionError
{line}
"""


@pytest.mark.parametrize(
    ("line", "ending"),
    [
        ("1 failed, 42 passed, 13 skipped in 187.70s (0:03:07)", "1 failed, 42 passed, 13 skipped"),
        ("297 passed in 95.50s", "297 passed"),
        ("==== 3 passed, 1 warning in 5.0s ====", "3 passed, 1 warning"),
        ("ERROR: no such file", "exit code 4"),
    ],
)  # fmt: skip
def test_the_closing_line_says_how_it_ended(line: str, ending: str) -> None:
    assert portable.ending(REPORT.format(line=line), 4) == ending


def test_kernel_environments_change_machine_code_or_threads_only() -> None:
    table = portable.environments()
    kernels = [one for one in table.values() if not one.python]
    assert len(kernels) == 5
    assert not kernels[0].variables  # the machine's own comes first
    known = {
        *portable.ONE_THREAD, "OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR",
        "ATEN_CPU_CAPABILITY", "NUMBA_CPU_NAME", "NPY_DISABLE_CPU_FEATURES",
    }  # fmt: skip
    assert {name for one in kernels for name in one.variables} <= known
    assert {one.name for one in table.values() if one.python} == {"newest", "lowest"}


def test_the_variables_reach_the_libraries(tmp_path: Path) -> None:
    """A name that is misspelt, or a processor that is none, would change nothing."""
    found = {}
    for name in ("default", "compatible"):
        row = portable.environments()[name]
        report = tmp_path / f"{name}.txt"
        assert portable.call(row, [sys.executable, "-c", portable.KERNELS], report) == 0
        found[name] = report.read_text()
    assert re.search("ATen (DEFAULT|NO AVX)", found["compatible"])  # new and old versions of torch
    assert "Nehalem" in found["compatible"]


def test_rows_fail_with_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "REPORTS", tmp_path)
    monkeypatch.setattr(portable, "KERNELS", "print('none')")
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)  # this may run in such an environment
    ends = {"tests": ("1 passed in 0.1s", 0), "notebooks": ("1 failed, 1 passed in 0.1s", 1)}

    def fake(command, *, stdout, **_):
        part = next((part for part in ends if part in Path(stdout.name).name), None)
        stdout.write(ends[part][0] if part else "none\n")
        return subprocess.CompletedProcess(command, ends[part][1] if part else 0)

    monkeypatch.setattr(subprocess, "run", fake)
    row = portable.run(portable.environments()["sse"], ("tests", "notebooks"), 1)
    assert row.failed
    assert row.ends == {"tests": "1 passed", "notebooks": "1 failed, 1 passed"}
    assert portable.table([row]).splitlines()[-1] == (
        "| sse | 1 passed | 1 failed, 1 passed | none |"
    )
    assert "NUMBA_CPU_NAME" not in os.environ  # of the child's only
