"""Self-supervised and multimodal ECG models for the Hugging Face ecosystem."""

__version__ = "0.1.0"
