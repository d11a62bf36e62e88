"""
Zero-shot: any text as a label
==============================

The encoder that ships was trained with the reports of its recordings, so that an ECG and a text can be compared.
"""

# %%
# A score is the cosine similarity of recording and text. It is no probability: it can be compared between recordings
# for one text, and loosely between texts for one recording.
from transformers import pipeline

import ecg_hf

zero_shot = pipeline("zero-shot-ecg-classification")
labels = ["normal ECG", "atrial fibrillation", "left bundle branch block", "acute myocardial infarction"]
for answer in zero_shot(ecg_hf.sample_record(), candidate_labels=labels):
    print(f"{answer['score']:+.3f}  {answer['label']}")

# %%
# German works too: a quarter of PTB-XL's reports were written in it. A word the model has never read is refused.
for answer in zero_shot(ecg_hf.sample_record(), candidate_labels=["linksschenkelblock", "vorhofflimmern"]):
    print(f"{answer['score']:+.3f}  {answer['label']}")
try:
    zero_shot(ecg_hf.sample_record(), candidate_labels=["xyzzy"])
except ecg_hf.EcgError as error:
    print("refused:", error)

# %%
# Several phrasings of one label, whose embeddings are averaged.
prompts = {
    "LBBB": ["left bundle branch block", "complete left bundle branch block"],
    "RBBB": ["right bundle branch block", "complete right bundle branch block"],
}
print(zero_shot(ecg_hf.sample_record(), candidate_labels=prompts))

# %%
# ``softmax`` makes scores that add up to one over the labels asked for. That presumes that exactly one of them
# applies, and it is not calibrated.
for answer in zero_shot(ecg_hf.sample_record(), candidate_labels=labels, function_to_apply="softmax"):
    print(f"{answer['score']:.3f}  {answer['label']}")
