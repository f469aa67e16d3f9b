"""Cones of the units of deeper networks, decided in exact arithmetic."""
