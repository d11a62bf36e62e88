"""ECG-JEPA: joint-embedding prediction of masked ECG patches (Kim, arXiv 2410.08559)."""
