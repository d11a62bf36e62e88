"""Models: one folder per method, assembled from the blocks in ``ecg_hf.nn``."""

# The library's Auto classes come first: the moment they are imported, ``ecg_hf.registration`` loads our classes, and
# would find them half-imported if one of our own modules had been the one to ask.
import transformers.models.auto.modeling_auto  # noqa: F401
