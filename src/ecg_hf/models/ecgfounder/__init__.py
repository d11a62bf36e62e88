"""ECGFounder: a convolutional network trained on 150 statements of machine-read ECGs (arXiv 2410.04133)."""
