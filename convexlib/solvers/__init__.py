"""Solvers: functions from a problem to a Result, one algorithm a file."""
