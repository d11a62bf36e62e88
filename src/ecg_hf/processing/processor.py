"""ECG and text together: :class:`EcgProcessor`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

# The Auto classes come first, see ecg_hf.auto_registration.
import transformers.models.auto.modeling_auto  # noqa: F401
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import FEATURE_EXTRACTOR_NAME

from ecg_hf.auto_map import LeadsToPackage
from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.inputs import Layout
from ecg_hf.processing.text import tokenize_texts

__all__ = ["EcgProcessor"]


class EcgProcessor(LeadsToPackage, ProcessorMixin):
    """A feature extractor and a tokenizer, for models that pair ECGs with reports or prompts.

    Args:
        feature_extractor: Prepares the ECGs.
        tokenizer: Any ``transformers`` tokenizer; prepares the texts.

    Raises:
        ConfigurationError: if the feature extractor returns an ``attention_mask`` too.

    Example:
        >>> processor = AutoProcessor.from_pretrained("org/cg-dmer")
        >>> inputs = processor(record, ["atrial fibrillation", "normal ECG"], return_tensors="pt")
        >>> model(**inputs).logits_per_ecg.shape
        torch.Size([1, 2])
    """

    def __init__(self, feature_extractor: EcgFeatureExtractor, tokenizer: Any) -> None:
        if getattr(feature_extractor, "return_attention_mask", False):
            raise ConfigurationError(
                "in a processor attention_mask belongs to the texts: create the feature extractor without "
                "return_attention_mask and use sample_mask"
            )
        super().__init__(feature_extractor, tokenizer)

    def __call__(
        self,
        ecg: Any = None,
        text: str | Sequence[str] | None = None,
        sampling_rate: float | None = None,
        lead_names: Sequence[str] | None = None,
        unit: str = "mV",
        *,
        max_length: int | None = None,
        padding: bool | str = True,
        truncation: bool = True,
        return_tensors: str | None = None,
        device: Any | None = None,
        layout: Layout | None = None,
        return_sample_mask: bool | None = None,
        return_report: bool = False,
    ) -> BatchFeature:
        """Prepare ECGs, texts, or both. Their numbers may differ (prompts of a zero-shot task).

        Args:
            ecg: See :meth:`EcgFeatureExtractor.__call__`.
            text: One text or several; lower-cased if the tokenizer's configuration says so.
            sampling_rate: Rate of arrays in Hz.
            lead_names: Leads of arrays.
            unit: Amplitude unit of arrays.
            max_length: Longest text in tokens; by default the tokenizer's limit.
            padding: As in ``tokenizer(...)``.
            truncation: Cut longer texts.
            return_tensors: ``"pt"`` or ``"np"``.
            device: Compute the ECG part with torch on this device.
            layout: Axis order of arrays.
            return_sample_mask: Whether to return ``sample_mask``.
            return_report: Add the report on the ECGs under ``"report"``.

        Returns:
            ``input_values`` and ``lead_mask`` for ECGs; ``input_ids`` and ``attention_mask`` for texts.

        Raises:
            EcgError: a subclass naming what is wrong.
        """
        if ecg is None and text is None:
            raise SignalError("nothing to prepare: pass ecg, text or both")
        batch = BatchFeature()
        if ecg is not None:
            prepared = self.feature_extractor(
                ecg,
                sampling_rate=sampling_rate,
                lead_names=lead_names,
                unit=unit,
                return_tensors=return_tensors,
                device=device,
                layout=layout,
                return_sample_mask=return_sample_mask,
                return_report=return_report,
            )
            batch.update(prepared)
        if text is not None:
            encoded = tokenize_texts(
                self.tokenizer,
                text,
                max_length=max_length,
                padding=padding,
                truncation=truncation,
                return_tensors=return_tensors,
            )
            if device is not None and return_tensors == "pt":
                encoded = {key: value.to(device) for key, value in encoded.items()}
            batch.update(encoded)
        return batch

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call with ECGs and texts returns."""
        return [*self.feature_extractor.model_input_names, "input_ids", "attention_mask"]

    def save_pretrained(
        self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Save both parts so that each can also be loaded alone.

        ``transformers`` v5 nests the feature extractor in ``processor_config.json`` only; pipelines and
        ``AutoFeatureExtractor`` read ``preprocessor_config.json``, which is written as well.
        """
        saved = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        return [*saved, str(Path(save_directory) / FEATURE_EXTRACTOR_NAME)]

    def to_json_file(self, json_file_path: str | PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Like the library's, but writes the feature extractor's file too.

        Done here instead of in :meth:`save_pretrained`, because a push uploads only what that call wrote.
        """
        self.feature_extractor.to_json_file(Path(json_file_path).with_name(FEATURE_EXTRACTOR_NAME))
        super().to_json_file(json_file_path, *args, **kwargs)

    def auto_classes(self) -> dict[str, str]:
        """This class, by its Auto class."""
        return {"AutoProcessor": type(self).__name__}
