"""ECG and text: a backbone and a text tower whose embeddings of a record and its report are aligned."""
