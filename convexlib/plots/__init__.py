"""Matplotlib pictures of the library's objects.

Every function takes an optional ``ax``, returns the Axes and shows nothing. With no ``ax`` it
draws on a new figure in the book's style: no background, colours readable on white and near-black.
"""

from convexlib.arrangements.zonotope import zonotope_vertices
from convexlib.plots.cells import cell_sectors, plot_cells, plot_zonotope, zonotope_facets
from convexlib.plots.convergence import plot_convergence, plot_training, seed_band
from convexlib.plots.functions import neuron_kinks, plot_function, plot_input_cells
from convexlib.plots.style import COLOURS, GREY, STYLE, style, use_style

__all__ = [
    "COLOURS",
    "GREY",
    "STYLE",
    "cell_sectors",
    "neuron_kinks",
    "plot_cells",
    "plot_convergence",
    "plot_function",
    "plot_input_cells",
    "plot_training",
    "plot_zonotope",
    "seed_band",
    "style",
    "use_style",
    "zonotope_facets",
    "zonotope_vertices",
]
