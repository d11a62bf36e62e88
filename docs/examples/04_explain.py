"""
What a score is due to
======================

Two maps of one score over leads and time. Occlusion lays a stretch of a lead flat and says how much of the score is
lost; gradient x input is its estimate to first order. They are about the model, right or wrong.
"""

# %%
# ``ecg-hf explain RECORD --output why.png`` draws the same.
from transformers import pipeline

import ecg_hf
from ecg_hf.pipelines.explanation import explain
from ecg_hf.plotting import Relevance, plot_ecg

classify = pipeline("ecg-classification")
record = ecg_hf.read_record(ecg_hf.sample_record())
found = explain(classify, record, "CLBBB", patch_s=0.25)
print(f"{found.name}: probability {found.score:.2f}")

# %%
# How much of the logit is lost without each lead.
order = found.maps.by_lead.argsort()[::-1]
for row in order[:4]:
    print(f"{found.record.lead_names[row]:4} {found.maps.by_lead[row]:+.2f}")

# %%
maps = found.maps
relevance = Relevance(
    maps.occlusion, found.patch_s, maps.gradient, found.sampling_rate, found.name, found.scale
)
figure = plot_ecg(found.record, layout="rows", relevance=relevance, title="why left bundle branch block")
figure

# %%
# A model with a text side explains any text.
zero_shot = pipeline("zero-shot-ecg-classification")
found = explain(zero_shot, record, "left bundle branch block", patch_s=1.0)
print(f"similarity {found.score:+.3f}; lost without V1: {found.maps.by_lead[6]:+.3f}")
