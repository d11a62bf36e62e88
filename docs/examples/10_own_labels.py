"""
Your own recordings and labels
==============================

A folder of files and a ``labels.csv`` become a dataset; embeddings and a logistic regression become a first answer to
whether the labels can be learnt, in seconds, before anything is trained.
"""

# %%
# A folder as it might lie on a disk: here 80 simulated recordings as CSV files.
import csv
import tempfile
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import ecg_hf
from ecg_hf.data import load_ecg_folder
from ecg_hf.signal.synthetic import simulate

folder = Path(tempfile.mkdtemp())
batch = simulate(80, seed=5, sampling_rate=100)
with (folder / "labels.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["id", "patient", "label"])
    for one in batch:
        seconds = np.arange(one.signal.shape[1]) / one.sampling_rate
        header = "time (s)," + ",".join(f"{lead} (mV)" for lead in one.to_record().lead_names)
        values = np.column_stack([seconds, one.signal.T])
        name = f"{one.record_id}.csv"
        np.savetxt(folder / name, values, delimiter=",", header=header, comments="", fmt="%.3f")
        table.writerow([name, one.patient_id, ";".join(one.codes)])

# %%
# Splits are drawn by patient, so that nobody is on both sides.
rows = load_ecg_folder(folder)
print(rows.column_names)
print(rows[0]["record_id"], rows[0]["labels"], rows[0]["split"], rows[0]["ecg"]["signal"].shape)

# %%
# A label of one's own: here, whether the rhythm is sinus rhythm.
label = np.array(["SR" in codes for codes in rows["labels"]])
train = np.array([split == "train" for split in rows["split"]])
records = [
    ecg_hf.EcgRecord(row["ecg"]["signal"], row["ecg"]["sampling_rate"], row["ecg"]["lead_names"])
    for row in rows
]
x = ecg_hf.embed(records)
x = (x - x[train].mean(0)) / (x[train].std(0) + 1e-6)
probe = LogisticRegression(C=0.01, max_iter=1000).fit(x[train], label[train])
score = roc_auc_score(label[~train], probe.decision_function(x[~train]))
print(f"{train.sum()} to learn from, {(~train).sum()} kept aside: AUROC {score:.2f}")

# %%
# So few records say little: ``ecg-hf evaluate`` gives intervals over patients, and the same encoder untrained beside
# it.
