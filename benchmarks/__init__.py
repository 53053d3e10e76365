"""Measurements, each printed with what it was measured on and against."""
