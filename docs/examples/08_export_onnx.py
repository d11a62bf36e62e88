"""
Export to ONNX
==============

A model with its preprocessing as a folder that runs without PyTorch. ``ecg-hf export MODEL OUT`` does the same.
"""

# %%
# The export is written only after it has said what the model says on real recordings.
import tempfile
from pathlib import Path

from transformers import AutoFeatureExtractor

import ecg_hf
from ecg_hf.export import export_model
from ecg_hf.runtime import OnnxModel

folder = ecg_hf.pretrained("ecg-distil-ptbxl-statements")
model = ecg_hf.AutoModelForEcgClassification.from_pretrained(folder)
extractor = AutoFeatureExtractor.from_pretrained(folder)
target = Path(tempfile.mkdtemp(), "exported")
facts = export_model(model, extractor, target)
print(facts["inputs"], facts["outputs"])
print("largest difference", facts["checked"]["largest_difference"])
for path in sorted(target.iterdir()):
    print(f"{path.name:20} {path.stat().st_size / 1e6:6.2f} MB")

# %%
# ``OnnxModel`` needs NumPy and onnxruntime alone.
onnx = OnnxModel(target, threads=1)
for answer in onnx.scores(ecg_hf.sample_record())[0][:3]:
    print(f"{answer['score']:.2f}  {answer['label']}")
