"""Colours that can be read on any page, and settings that do not leak."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from convexlib import plots


def luminance(colour):
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
def test_colours_are_readable_on_light_and_dark_pages(page):
    assert contrast(plots.GREY, page) >= 4.2
    assert min(contrast(colour, page) for colour in plots.COLOURS) >= 3.0


def test_style_is_transparent_and_is_undone():
    before = mpl.rcParams.copy()
    with plots.style():
        assert mpl.rcParams["figure.facecolor"] == "none"
        assert mpl.rcParams["text.color"] == plots.GREY
    assert mpl.rcParams == before


def test_use_style_stays():
    with mpl.rc_context():
        plots.use_style()
        assert mpl.rcParams["axes.labelcolor"] == plots.GREY


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
