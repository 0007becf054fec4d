"""Cohorts on disk: discovery, splits, preprocessing, phantoms. The only room that reads NIfTI."""
