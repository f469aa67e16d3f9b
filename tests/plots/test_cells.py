"""Cells in the plane: sectors, walls and labels."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Wedge

from convexlib import plots
from convexlib.arrangements import Arrangements, enumerate_arrangements, sample_arrangements
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
    ax = drawn(plots.plot_cells(X, label_patterns=False))
    wedges = [patch for patch in ax.patches if isinstance(patch, Wedge)]
    assert len(wedges) == len(enumerate_arrangements(X))
    lines = [np.subtract(*line.get_xydata()) for line in ax.lines]
    assert len(lines) == len(wedges) // 2
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
    assert not [
        text for text in plots.plot_cells(fan, label_patterns=False).texts if "0" in text.get_text()
    ]


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


def test_cells_missed_by_a_sample_stay_empty(fan):
    full = enumerate_arrangements(fan)
    part = Arrangements(full.masks[:3], full.gates[:3])
    ax = plots.plot_cells(fan, arrangements=part)
    filled = {p.get_label()[1:] for p in ax.patches if p.get_facecolor()[3] > 0}
    assert filled == {"".join(str(int(bit)) for bit in mask) for mask in part.masks}


def test_arrangements_of_other_data_are_refused(fan):
    other = sample_arrangements(fan[:3], 5, seed=0)
    with pytest.raises(InputError, match=r"patterns of 3 samples but X has 4 rows"):
        plots.plot_cells(fan, arrangements=other)


@pytest.mark.parametrize(
    ("columns", "hint"), [(1, "Append a column of ones"), (3, "Keep two columns")]
)
def test_cells_need_two_columns(columns, hint):
    with pytest.raises(InputError, match=rf"\(4, {columns}\); plot_cells needs 2 columns.*{hint}"):
        plots.plot_cells(np.ones((4, columns)))
    assert not plt.get_fignums()


REFUSALS = [
    (lambda: plots.plot_cells(EYE, ax="x"), InputError, "ax is str; expected matplotlib Axes"),
    (lambda: plots.plot_cells(1e308 * EYE), InputError, "largest entry of X is 1.0e"),
]  # fmt: skip
test_refusals = refused(REFUSALS)
