"""Colours that can be read on any page, and settings that do not leak."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convexlib import plots
from tests.helpers.contrast import contrast


@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
def test_colours_are_readable_on_light_and_dark_pages(page):
    assert contrast(plots.GREY, page) >= 4.2
    assert min(contrast(colour, page) for colour in plots.COLOURS) >= 3.0


def test_new_figures_have_the_style_without_asking(fan):
    ax = plots.plot_cells(fan)
    assert ax.figure.get_facecolor()[3] == 0
    assert ax.get_facecolor()[3] == 0
    assert ax.xaxis.label.get_color() == plots.GREY


@pytest.mark.slow
def test_importing_and_drawing_need_no_display(tmp_path):
    code = (
        "import numpy as np; from convexlib import plots; "
        "plots.plot_cells(np.eye(2)).figure.savefig('cells.png')"
    )
    quiet = {"DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    root = str(Path(plots.__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, check=True
    )
    assert (tmp_path / "cells.png").stat().st_size > 1000
