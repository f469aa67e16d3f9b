"""Run the tests and the notebooks in other numeric environments, and print one table.

    python tools/portable.py                  every environment of tools/environments.toml
    python tools/portable.py sse newest       some of them
    python tools/portable.py --only tests compatible
    python tools/portable.py --list

The reports lie in `build/portable/<environment>/`. Exit code 1 if anything fails anywhere.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tools" / "environments.toml"
REPORTS = ROOT / "build" / "portable"
PARTS = ("tests", "notebooks")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
# What the libraries say that they run with: variables that a library ignores would prove nothing.
KERNELS = """
import numpy, torch, platform
from threadpoolctl import threadpool_info
import scipy.linalg
blas = sorted({f"{i['internal_api']}:{i.get('architecture', '')}" for i in threadpool_info()
               if i["user_api"] == "blas"})
print("python", platform.python_version(), "numpy", numpy.__version__, "torch", torch.__version__,
      "| ATen", torch.backends.cpu.get_cpu_capability(), "|", *blas)
"""


@dataclass(frozen=True)
class Environment:
    """One row of the table.

    Attributes
    ----------
    name, says : str
        What it is called, and what it stands for.
    variables : dict
        Of the environment.
    python : str
        The interpreter of a version environment, empty for kernel environments.
    """

    name: str
    says: str
    variables: dict[str, str] = field(default_factory=dict)
    python: str = ""

    @property
    def executable(self) -> Path:
        return ROOT / f".venv{'-' + self.name if self.python else ''}" / "bin" / "python"


def environments() -> dict[str, Environment]:
    table = tomllib.loads(TABLE.read_text(encoding="utf8"))
    rows = {**table["kernels"], **table["versions"]}
    return {name: Environment(name, **row) for name, row in rows.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    known = environments()
    parser = argparse.ArgumentParser(prog="tools/portable.py", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="ENVIRONMENT", help=", ".join(known))
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", choices=PARTS, help="one of the two parts")
    parser.add_argument("--list", action="store_true", help="print the table and stop")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.names) - set(known)):
        parser.error(f"no environment {', '.join(unknown)}; there are: {', '.join(known)}")
    if chosen.list:
        for one in known.values():
            print(f"{one.name:12}{one.says}")
        return 0
    rows = []
    for name in chosen.names or known:
        rows.append(run(known[name], PARTS if chosen.only is None else (chosen.only,), chosen.jobs))
        print(rows[-1].line(), flush=True)
    print("\n" + table(rows))
    return int(any(row.failed for row in rows))


@dataclass
class Row:
    """What came of one environment."""

    environment: Environment
    kernels: str
    ends: dict[str, str]
    failed: bool
    minutes: float

    def line(self) -> str:
        """For a terminal."""
        ends = "; ".join(f"{part}: {end}" for part, end in self.ends.items())
        return f"{self.environment.name:12}{ends} ({self.minutes:.0f} min; {self.kernels})"


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    parts = list(rows[0].ends)
    lines = [
        "| Environment | " + " | ".join(part.capitalize() for part in parts) + " | Kernels |",
        "|:--|" + ":--|" * (len(parts) + 1),
    ]
    for row in rows:
        ends = " | ".join(row.ends[part] for part in parts)
        lines.append(f"| {row.environment.name} | {ends} | {row.kernels.replace('|', '/')} |")
    return "\n".join(lines)


def run(environment: Environment, parts: tuple[str, ...], jobs: int) -> Row:
    """Run the parts in one environment."""
    began = time.monotonic()
    if environment.python:
        install(environment)
    reports = REPORTS / environment.name
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    python = str(environment.executable)
    asked = call(environment, [python, "-c", KERNELS], reports / "kernels.txt")
    kernels = (reports / "kernels.txt").read_text().strip().splitlines()
    commands = {
        "tests": [
            *(python, "-m", "pytest", "-q", "-m", "not browser", f"-n{jobs}"),
            *("-p", "no:cacheprovider"),
        ],
        "notebooks": [python, "book/tools/notebooks.py", "--test", "--jobs", str(jobs)],
    }
    ends, failed = {}, asked != 0
    for part in parts:
        report = reports / f"{part}.txt"
        code = call(environment, commands[part], report)
        ends[part] = ending(report.read_text(errors="replace"), code)
        failed |= code != 0
    return Row(environment, kernels[-1] if kernels else "?", ends, failed,
               (time.monotonic() - began) / 60)  # fmt: skip


def call(environment: Environment, command: list[str], report: Path) -> int:
    """Run a command in an environment; its output goes into a file."""
    variables = {**os.environ, **ONE_THREAD, **environment.variables}
    with report.open("w") as stream:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    return done.returncode


def ending(report: str, code: int) -> str:
    """The closing line of pytest, without its seconds."""
    found = re.findall(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s", report, re.MULTILINE)
    return found[-1] if found else f"exit code {code}"


def install(environment: Environment) -> None:
    """Make the virtual environment of some library versions, unless it is there."""
    folder = environment.executable.parents[1]
    stamp = folder / ".complete"
    project = ROOT / "pyproject.toml"
    if stamp.exists() and stamp.stat().st_mtime >= project.stat().st_mtime:
        return
    interpreter = shutil.which(environment.python)
    # A version manager may put names on the PATH whose interpreter is not chosen.
    if interpreter is None or subprocess.run([interpreter, "-c", ""], check=False).returncode:
        raise SystemExit(f"{environment.name} needs {environment.python} on the PATH.")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    pip = [environment.executable, "-m", "pip", "install", "--quiet"]
    dependencies = tomllib.loads(project.read_text(encoding="utf8"))["project"]["dependencies"]
    if environment.name == "lowest":
        exact = [dependency.replace(">=", "==") for dependency in dependencies]
        # torch first, as in `make setup`; the rest must not replace it.
        subprocess.run([*pip, *(name for name in exact if name.startswith("torch=="))], check=True)
        limits = folder / "lowest.txt"
        limits.write_text("\n".join(exact))
        subprocess.run([*pip, "-c", limits, *exact, "-e", ".[book,test]"], cwd=ROOT, check=True)
    else:
        subprocess.run([*pip, "--upgrade", "torch"], check=True)
        subprocess.run(
            [*pip, "--upgrade", "--upgrade-strategy", "eager", "-e", ".[book,test]"],
            cwd=ROOT, check=True,
        )  # fmt: skip
    stamp.touch()


if __name__ == "__main__":
    sys.exit(main())
