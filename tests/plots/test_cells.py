"""Cells in the plane: sectors, walls and labels."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Wedge

from convexlib import plots
from convexlib.arrangements import enumerate_arrangements
from convexlib.errors import InputError
from tests.helpers.refusals import EYE, refused


def test_sectors_are_the_enumerated_patterns(planar):
    X = planar
    sectors, masks = plots.cell_sectors(X)
    assert {tuple(mask) for mask in masks} == {
        tuple(mask) for mask in enumerate_arrangements(X).masks.tolist()
    }
    assert len(np.unique(masks, axis=0)) == len(masks)
    assert np.diff(sectors).sum() == pytest.approx(2 * np.pi)
    for share in (0.1, 0.9):
        angles = sectors @ [1 - share, share]
        gates = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        nonzero = np.abs(X).max(axis=1) > 0
        np.testing.assert_array_equal((gates @ X.T >= 0)[:, nonzero], masks[:, nonzero])


def test_cells_draw_one_wedge_per_pattern_and_lines_perpendicular_to_the_data(planar, drawn):
    X = planar
    ax = drawn(plots.plot_cells(X))
    wedges = [patch for patch in ax.patches if isinstance(patch, Wedge)]
    assert len(wedges) == len(enumerate_arrangements(X))
    lines = [np.subtract(*line.get_xydata()) for line in ax.lines][: len(wedges) // 2]
    for row in X[np.abs(X).max(axis=1) > 0]:
        cosines = [abs(row @ line) / np.linalg.norm(row) / np.linalg.norm(line) for line in lines]
        assert min(cosines) < 1e-12


def test_each_cell_is_labelled_beside_itself(fan, drawn):
    ax = drawn(plots.plot_cells(torch.tensor(fan)))
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    sectors, masks = plots.cell_sectors(fan)
    for (start, stop), mask in zip(sectors, masks, strict=True):
        across, up = texts["".join(str(int(bit)) for bit in mask)]
        assert start < start + (np.arctan2(up, across) - start) % (2 * np.pi) < stop
    assert {"$x_{1}$", "$x_{4}$"} <= set(texts)


def test_many_cells_are_not_labelled(drawn):
    X = np.random.default_rng(1).standard_normal((30, 2))
    assert not drawn(plots.plot_cells(X)).texts


def test_narrow_cells_get_labels_apart(drawn):
    X = np.array([[1.0, 0.0], [1.0, 1e-3], [1.0, 2e-3], [1.0, 3e-3], [0.0, 1.0], [1.0, 1.0]])
    ax = drawn(plots.plot_cells(X))
    places = [text.get_position() for text in ax.texts if len(text.get_text()) == 6]
    assert len(places) == 12
    angles = np.sort([np.arctan2(up, across) for across, up in places])
    assert np.diff(angles).min() > 0.1


REFUSALS = [
    (lambda: plots.plot_cells(EYE, ax="x"), InputError, "ax is str; expected matplotlib Axes"),
    (lambda: plots.plot_cells(np.ones((4, 1))),
     InputError, r"\(4, 1\); plot_cells needs 2 columns.*Append a column of ones"),
    (lambda: plots.plot_cells(np.ones((4, 3))),
     InputError, r"\(4, 3\); plot_cells needs 2 columns.*Keep two columns"),
    (lambda: plots.plot_cells(1e308 * EYE), InputError, "largest entry of X is 1.0e"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
