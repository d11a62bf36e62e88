"""CoRe-ECG: contrast of two views and reconstruction of masked patches in one forward pass."""
