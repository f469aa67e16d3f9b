"""The command line, called in this process."""

from collections.abc import Callable

import pytest

from convexlib import cli

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit code, and the lines that it printed on stdout and on stderr."""

    def call(*words: str) -> tuple[int, list[str], list[str]]:
        code = cli.main(words)
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return call
