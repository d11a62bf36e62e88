"""CRT: cross reconstruction of time and frequency domains (arXiv 2205.09928)."""
