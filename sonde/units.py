"""Units of length that a set of captures, a report or a file may use."""

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
"""Metres per unit."""
