"""Models as graphs for other runtimes: ONNX and torch's own exported programs, checked on real recordings.

ExecuTorch is left out: its tools are tied to releases of torchao and tokenizers of their own; ``model.pt2`` is the
program that they start from.
"""

from ecg_hf.export.exporting import FORMATS, HEADS, export_model

__all__ = ["FORMATS", "HEADS", "export_model"]
