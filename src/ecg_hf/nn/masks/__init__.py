"""Masks as pure functions of noise: patches, beats, leads and times together, blocks of time."""
