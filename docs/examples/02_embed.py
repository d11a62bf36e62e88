"""
Embeddings
==========

One vector per recording from a frozen encoder, in one line; a vector per token from the model itself.
"""

# %%
import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel

import ecg_hf
from ecg_hf.plotting import plot_embedding_map
from ecg_hf.signal.synthetic import simulate

print(ecg_hf.embed(ecg_hf.sample_record()).shape)

# %%
# Several recordings, of different rates and leads: the feature extractor brings them to what the model takes.
record = ecg_hf.read_record(ecg_hf.sample_record())
lead_one = record.select_leads(["I"])
vectors = ecg_hf.embed([record, lead_one])
cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors, axis=1).prod()
print(f"twelve leads and lead I of the same recording: cosine {cosine:.2f}")

# %%
# The same with the library's Auto classes, which also give the tokens.
folder = ecg_hf.pretrained("ecg-distil-ptbxl")
model = AutoModel.from_pretrained(folder).eval()
extractor = AutoFeatureExtractor.from_pretrained(folder)
inputs = extractor(record, return_tensors="pt")
with torch.inference_mode():
    outputs = model(**inputs)
print({name: tuple(value.shape) for name, value in inputs.items()})
print("pooled", tuple(outputs.pooler_output.shape), "tokens", tuple(outputs.last_hidden_state.shape))

# %%
# A map of simulated hearts, coloured by their rhythm. Simulated signals are easier than real ones.
batch = simulate(160, seed=1, sampling_rate=100)
rhythms = ("AFIB", "STACH", "SBRAD", "SR")
names = [next((code for code in rhythms if code in codes), "other") for codes in batch.codes]
figure = plot_embedding_map(ecg_hf.embed([one.to_record() for one in batch]), names, title="simulated ECGs")
figure
