"""Synthetic cohorts, on disk as the real ones are: for tests, and for users without data."""

from fdseg.data.phantom.cohorts import write_phantom

__all__ = ["write_phantom"]
