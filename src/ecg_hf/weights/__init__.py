"""Weights, cards and the sample record that ship with the package: data, no code."""
