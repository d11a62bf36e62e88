"""Scores of a test set, their intervals and tests, calibration."""
