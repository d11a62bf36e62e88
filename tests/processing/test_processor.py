"""ECG and text through one door."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.processing import EcgFeatureExtractor, EcgProcessor
from ecg_hf.processing.text import tokenize_texts
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sinus", "rhythm", "normal", "ecg", ",", "atrial"]
ECGS = simulate(2, seed=1, sampling_rate=100.0).signal


@pytest.fixture
def processor(tmp_path: Path) -> EcgProcessor:
    from transformers import BertTokenizerFast

    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast.from_pretrained(tmp_path / "vocab")
    return EcgProcessor(EcgFeatureExtractor(sampling_rate=100, normalization="zscore_lead"), tokenizer)


@pytest.fixture
def registered() -> Iterator[None]:
    """The Auto classes know the base extractor and the processor, under a configuration of the test's own."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoProcessor, PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    class ProcessorTestConfig(PreTrainedConfig):
        model_type = "ecg-processor-test"

    AutoConfig.register("ecg-processor-test", ProcessorTestConfig)
    AutoFeatureExtractor.register(ProcessorTestConfig, EcgFeatureExtractor)
    AutoProcessor.register(ProcessorTestConfig, EcgProcessor)
    yield
    CONFIG_MAPPING._extra_content.pop("ecg-processor-test")
    FEATURE_EXTRACTOR_MAPPING._extra_content.pop(ProcessorTestConfig)
    PROCESSOR_MAPPING._extra_content.pop(ProcessorTestConfig)


def test_ecg_and_text(processor: EcgProcessor) -> None:
    records = [EcgRecord(ecg, 100, STANDARD_LEADS) for ecg in ECGS]
    out = processor(records, ["Sinus RHYTHM", "normal"], return_tensors="pt")
    assert out["input_values"].shape == (2, 12, 1000)
    assert out["input_ids"].tolist() == [[2, 5, 6, 3], [2, 7, 3, 0]]
    assert out["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert set(out) <= {*processor.model_input_names, "sample_mask"}
    alone = processor.feature_extractor(records)
    np.testing.assert_array_equal(out["input_values"].numpy(), alone["input_values"])


def test_either_part_alone(processor: EcgProcessor) -> None:
    assert set(processor(text="normal ecg")) == {"input_ids", "attention_mask"}
    assert processor(text="normal ecg")["input_ids"] == [[2, 7, 8, 3]]
    assert set(processor(ECGS, sampling_rate=100, lead_names=STANDARD_LEADS)) == {"input_values", "lead_mask"}
    with pytest.raises(SignalError, match="nothing to prepare"):
        processor()


@pytest.mark.parametrize("text", [[float("nan")], [None], [b"sinus"], []])
def test_what_is_no_text_is_refused_without_quoting_it(processor: EcgProcessor, text: list[object]) -> None:
    with pytest.raises(SignalError):
        processor(text=text)  # type: ignore[arg-type]


def test_long_texts_are_cut_with_a_warning(processor: EcgProcessor, caplog: pytest.LogCaptureFixture) -> None:
    out = processor(text="sinus rhythm , " * 30, max_length=17)
    assert len(out["input_ids"][0]) == 17
    assert "longer than 17 tokens" in caplog.text
    assert "rhythm" not in caplog.text
    long = processor(text=["normal", "sinus " * 2000])
    assert len(long["input_ids"][1]) == 256


def test_lower_casing_follows_the_tokenizer_configuration(processor: EcgProcessor) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    for lower, expected in ((True, [5, 6]), (False, [1, 1])):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", do_lower_case=lower
        )
        cased = EcgProcessor(processor.feature_extractor, tokenizer)
        assert cased(text="SINUS Rhythm")["input_ids"] == [expected]


@pytest.mark.usefixtures("registered")
def test_save_and_load(processor: EcgProcessor, tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

    folder = tmp_path / "saved"
    processor.save_pretrained(folder)
    expected = processor(ECGS, "sinus , normal", 100, STANDARD_LEADS, return_tensors="np")
    for loaded in (EcgProcessor.from_pretrained(folder), AutoProcessor.from_pretrained(folder)):
        assert isinstance(loaded, EcgProcessor)
        out = loaded(ECGS, "sinus , normal", 100, STANDARD_LEADS, return_tensors="np")
        for key, value in expected.items():
            np.testing.assert_array_equal(out[key], value)
    # Each part also loads alone: pipelines ask for them by their own Auto classes.
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert extractor.to_dict() == processor.feature_extractor.to_dict()
    assert AutoTokenizer.from_pretrained(folder).vocab_size == len(WORDS)


def test_a_tokenizer_that_fails_is_a_typed_error_without_the_text(processor: EcgProcessor) -> None:
    tokenizer = copy.deepcopy(processor.tokenizer)
    with pytest.raises(ConfigurationError, match="tokenizer"):
        tokenize_texts(tokenizer, "a private report", padding="sideways")
    tokenizer.model_max_length = "long"
    with pytest.raises(ConfigurationError, match="tokenizer") as caught:
        tokenize_texts(tokenizer, "a private report")
    assert "private" not in str(caught.value)


def test_decoding_is_the_tokenizers(processor: EcgProcessor) -> None:
    ids = processor(text=["sinus rhythm"])["input_ids"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["sinus rhythm"]
    assert processor.decode(ids[0]) == "[CLS] sinus rhythm [SEP]"


def test_the_attention_mask_of_a_processor_is_the_texts_own(processor: EcgProcessor) -> None:
    with pytest.raises(ConfigurationError, match="sample_mask"):
        EcgProcessor(EcgFeatureExtractor(return_attention_mask=True), processor.tokenizer)
