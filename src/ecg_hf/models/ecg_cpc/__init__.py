"""ECG-CPC: contrastive predictive coding with an S4 context network."""
