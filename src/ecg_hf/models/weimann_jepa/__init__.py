"""ECG-JEPA of Weimann and Conrad: joint-embedding prediction of hidden moments of all leads (arXiv 2410.13867)."""
