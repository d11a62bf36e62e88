"""Models: one folder per method, assembled from the blocks in ``ecg_hf.nn``."""
