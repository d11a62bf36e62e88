"""MELP: an ECG transformer whose beats and tokens were aligned with the words of reports (arXiv 2506.21803)."""
