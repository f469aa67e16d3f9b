"""Cones of the units of deeper networks: support functions, projections and local ascent."""
