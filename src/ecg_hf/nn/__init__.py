"""Building blocks of the models: plain PyTorch, free of ``transformers``."""
