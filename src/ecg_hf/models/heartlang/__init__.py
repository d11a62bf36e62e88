"""HeartLang: ECGs as sentences of heartbeats (arXiv 2502.10707)."""
