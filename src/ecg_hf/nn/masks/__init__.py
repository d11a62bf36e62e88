"""Masks as pure functions of noise: patches, beats, two views at once, stretches of time."""
