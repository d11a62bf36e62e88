"""ECG-FM: wav2vec 2.0 with contrast of adjacent segments on 12 leads (arXiv 2408.05178)."""
