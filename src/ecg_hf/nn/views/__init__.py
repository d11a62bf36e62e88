"""Views: augmentations of whole batches of ECGs, pure functions of tensors and noise."""
