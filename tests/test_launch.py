"""Binder, development containers, Colab and `make setup` install what requirements.lock says."""

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from book.tools import notebooks

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / ".binder"
LOCK = ROOT / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())


def requirements(path: Path) -> list[str]:
    """Return the requirements of a file and of those that it names by ``-r``, as pip reads them."""
    found = []
    for line in path.read_text().splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text.startswith("-r "):
            found += requirements(path.parent / text.removeprefix("-r ").strip())
        elif text and not text.startswith("--extra-index-url "):
            found.append(text)
    return found


def locked() -> dict[str, Version]:
    pins = [line.partition("==") for line in requirements(LOCK)]
    versions = {canonicalize_name(name): Version(version) for name, _, version in pins}
    assert len(versions) == len(pins), "requirements.lock names a package twice"
    return versions


def direct(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml asks for, the extras' extras included."""
    found = []
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][name] for name in extras)]
    for one in map(Requirement, sum(lists, [])):
        found += direct(*one.extras) if one.name == PROJECT["name"] else [one]
    return found


def test_every_line_of_the_lock_file_is_one_exact_version():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in requirements(LOCK))


def test_the_lock_file_satisfies_pyproject():
    versions = locked()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    # Without build isolation the back end has to be there too; `export` is left to its users.
    for asked in [*direct("bench", "book", "cluster", "test"), *map(Requirement, build)]:
        name = canonicalize_name(asked.name)
        assert name in versions, f"{asked} is not in requirements.lock"
        assert versions[name] in asked.specifier, f"{asked}, but {versions[name]} is locked"


@pytest.mark.skipif(
    Path(sys.prefix).name in (".venv-newest", ".venv-lowest"),
    reason="this environment has other versions on purpose (make portable)",
)
def test_this_environment_is_the_locked_one():
    installed = {}
    for name in locked():
        try:
            installed[name] = Version(metadata.version(name)).public
        except metadata.PackageNotFoundError:
            installed[name] = "missing"
    assert installed == {name: version.public for name, version in locked().items()}


def test_binder_installs_the_lock_file_then_the_checkout_and_compiles(tmp_path):
    assert requirements(BINDER / "requirements.txt") == requirements(LOCK)
    script = BINDER / "postBuild"
    assert script.stat().st_mode & stat.S_IXUSR
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$@" >> "$CALLS"\n')
    stand_in.chmod(0o755)
    calls = tmp_path / "calls"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls)}
    subprocess.run([script], cwd=ROOT, env=environment, check=True)
    install, warm = calls.read_text().splitlines()
    assert install.startswith("-m pip install ")
    assert install.endswith(" -e .")
    assert {"--no-deps", "--no-build-isolation"} <= set(install.split())
    assert warm == "-m convexlib warm"


def test_the_container_and_make_setup_install_the_lock_file():
    target = CONTAINER["postCreateCommand"].removeprefix("make ")
    assert target == "setup"
    plan = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    installs = [line.split(" install ")[1] for line in plan.splitlines() if " pip install " in line]
    torch, lock, package = (line.removeprefix("--quiet ") for line in installs)
    assert torch == "\"$(grep '^torch==' requirements.lock)\""
    assert lock == "-r requirements.lock"
    assert package == "--no-deps --no-build-isolation -e ."
    assert plan.rindex("python -m convexlib warm") > plan.rindex(" pip install ")
    assert CONTAINER["forwardPorts"] == [
        int(re.search(r"^PORT \?= (\d+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1])
    ]


def test_colab_takes_the_versions_from_the_lock_file():
    page = (ROOT / "book" / "reproducing.md").read_text(encoding="utf8")
    (cell,) = re.findall(r"```ipython3\n((?:!.*\n)+)```", page)
    clone, install = cell.splitlines()
    *_, address, folder = clone.split()
    assert address == PROJECT["urls"]["Source"]
    assert f'Path("{folder}")' in notebooks.SET_UP  # which then finds it there
    assert install.split()[1:] == (
        f"install --quiet --constraint {folder}/requirements.lock --editable {folder}".split()
    )


@pytest.mark.parametrize(
    ("place", "python"),
    [
        ("Binder", (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")),
        ("container", CONTAINER["image"].split(":")[1].split("-")[0]),
        ("lock file", re.search(r"Python ([\d.]+)", LOCK.read_text())[1]),
    ],
    ids=lambda value: value.split()[0],
)
def test_the_python_of_each_place_is_supported_and_the_locked_one(place, python):
    assert Version(python) in SpecifierSet(PROJECT["requires-python"]), place
    assert re.search(r"Python ([\d.]+)", LOCK.read_text())[1] == python, place


def test_the_buttons_of_the_book_launch_both_services():
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
    buttons = config["sphinx"]["config"]["html_theme_options"]["launch_buttons"]
    assert {"binderhub_url", "colab_url"} <= buttons.keys()
    # Binder opens the chapters with JupyterLab, which its image brings.
    assert buttons["notebook_interface"] == "jupyterlab"
    assert config["repository"]["url"] == PROJECT["urls"]["Source"]


def test_the_files_that_describe_the_project_agree():
    people = [person["name"] for person in PROJECT["authors"]]
    assert [CITATION["title"].split(":")[0], CITATION["version"], CITATION["license"]] == [
        PROJECT["name"],
        PROJECT["version"],
        PROJECT["license"],
    ]
    assert [author["name"] for author in CITATION["authors"]] == people
    assert CITATION["repository-code"] == PROJECT["urls"]["Source"]


def test_the_version_of_the_library_is_that_of_the_project():
    assert metadata.version(PROJECT["name"]) == PROJECT["version"]


# --- What GitHub runs ---

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, object]]:
    return [
        step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_there_is_with_few_rights(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}  # more only where a job needs it
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for step in steps(path):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[\w./]+", str(step.get("uses", "a/b@v1")))
        for target in re.findall(r"\bmake ([a-z]+)", str(step.get("run", ""))):
            assert target in targets
        for script in re.findall(r"\bbash (\S+)", str(step.get("run", ""))):
            assert (ROOT / script).is_file()
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job or not any("run" in step for step in job["steps"][:-1])


def test_a_release_is_built_from_what_the_tag_says():
    run = "\n".join(
        str(step.get("run", "")) for step in steps(ROOT / ".github/workflows/release.yml")
    )
    line = re.search(r'grep -qx "(.*)" pyproject', run)[1]
    pattern = line.replace('\\"', '"').replace("${GITHUB_REF_NAME#v}", PROJECT["version"])
    assert pattern in (ROOT / "pyproject.toml").read_text().splitlines()
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(PROJECT['version'])} \(\d{{4}}-\d\d-\d\d\)$", changes, re.M)
    assert CITATION["version"] == PROJECT["version"]
