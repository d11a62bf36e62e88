"""CG-DMER: contrastive-generative disentangled multimodal ECG representation (arXiv 2602.21154)."""
