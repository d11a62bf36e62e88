"""HuBERT-ECG: masked prediction of clusters on flattened leads (medRxiv 2024.11.14.24317328)."""
