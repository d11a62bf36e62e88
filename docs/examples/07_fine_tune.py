"""
Fine-tune on a column of labels
===============================

``finetune`` is what ``ecg-hf finetune`` runs: any column of a dataset becomes a classifier. Two dozen steps on
simulated ECGs show the way; they make no good model.
"""

# %%
# A dataset of 240 simulated ECGs, built on disk as those of PhysioNet are.
import tempfile
from pathlib import Path

from transformers import pipeline

import ecg_hf
from ecg_hf.data import build_dataset, load_built
from ecg_hf.hub import document_classifier
from ecg_hf.training import finetune

place = Path(tempfile.mkdtemp())
build_dataset("synthetic", None, place / "data", records=240, seed=3, progress=False)
rows = load_built(place / "data")
print(rows)

# %%
# Start from the encoder that ships; learn the five superclasses of PTB-XL.
result = finetune(
    ecg_hf.pretrained("ecg-distil-ptbxl"),
    place / "data",
    place / "classifier",
    labels="super",
    max_steps=24,
    per_device_train_batch_size=16,
    learning_rate=1e-3,
    use_cpu=True,
    seed=0,
    report_to="none",
    disable_tqdm=True,
)
test = document_classifier(result)["test"]
low, high = test["ci95"]
print(f"{test['n']} test records, macro AUROC {test['macro_auroc']:.2f} [{low:.2f}, {high:.2f}]")

# %%
# The folder is a model like any other, with a card that says what it was trained on.
print(sorted(path.name for path in (place / "classifier").iterdir() if path.is_file()))
classify = pipeline("ecg-classification", model=str(place / "classifier"))
print(classify(ecg_hf.sample_record())[:2])
