"""HeartLang by itself: sentences, both stages in sequence, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig
from ecg_hf.models.heartlang.modeling_heartlang import (
    HeartLangForEcgClassification,
    HeartLangForPreTraining,
    HeartLangModel,
)
from ecg_hf.training import pretrain

PEAKS = torch.tensor([[40, 150, 260, -1], [50, 300, 550, 800]])


def records(rows: int = 2) -> Tensor:
    return torch.randn(rows, 12, 1000, generator=torch.Generator().manual_seed(0))


def micro(**options: object) -> HeartLangConfig:
    return HeartLangConfig.preset("micro", **options)


def test_a_sentence_has_the_leads_that_are_there_in_their_order() -> None:
    model, values = HeartLangModel(micro()), records()
    leads = torch.zeros(2, 12, dtype=torch.long)
    leads[0, [1, 7]], leads[1, 11] = 1, 1
    sentence = model.sentence(values, leads, r_peaks=PEAKS)
    assert sentence.lead_ids[:, :8].tolist() == [[2, 2, 2, 8, 8, 8, 0, 0], [12, 12, 12, 12, 0, 0, 0, 0]]
    assert sentence.time_ids[:, :8].tolist() == [[1, 2, 3, 1, 2, 3, 0, 0], [1, 4, 6, 9, 0, 0, 0, 0]]
    assert sentence.beat_mask.sum(1).tolist() == [6, 4]
    # The peak is in the middle of its window.
    assert torch.equal(sentence.beats[:, 1, 48], torch.stack([values[0, 1, 150], values[1, 11, 300]]))
    assert not sentence.beats[0, 6:].any()


def test_padding_has_no_beats() -> None:
    model = HeartLangModel(micro())
    there = (torch.arange(1000) < 500).expand(2, -1)
    sentence = model.sentence(records(), None, there, PEAKS)
    assert sentence.beat_mask.sum(1).tolist() == [36, 24]
    mask = model.token_mask(records(), None, there, PEAKS)
    assert mask is not None
    assert mask.sum(1).tolist() == [37, 25]


def test_records_without_peaks() -> None:
    none = torch.full((2, 40), -1)
    values = records()
    even = HeartLangModel(micro()).sentence(values, r_peaks=none)
    assert even.beat_mask.all()
    empty = HeartLangModel(micro(without_peaks="empty"))
    assert not empty.sentence(values, r_peaks=none).beat_mask.any()
    # Nothing is known of beats, which is another thing than that there are none.
    assert empty.sentence(values).beat_mask.all()


def test_hidden_padding_is_neither_attended_to_nor_counted() -> None:
    torch.manual_seed(0)
    model = HeartLangForPreTraining(micro(attend_to_padding=False, loss_on_padding=False)).eval()
    sentence = model.sentence(records(), r_peaks=PEAKS)
    other = sentence._replace(time_ids=torch.where(sentence.beat_mask, sentence.time_ids, 7))
    seen = [model.heartlang.encode_sentence(one)[0, :30] for one in (sentence, other)]
    torch.testing.assert_close(*seen)
    model.heartlang.config.attend_to_padding = True
    assert not torch.allclose(model.heartlang.encode_sentence(other)[0, :30], seen[0])


def test_codes_with_and_without_places_are_other_targets() -> None:
    torch.manual_seed(0)
    losses = []
    for places in (False, True):
        torch.manual_seed(0)
        model = HeartLangForPreTraining(micro(targets_with_places=places)).eval()
        losses.append(model(records(), r_peaks=PEAKS, noise=torch.rand(2, 96)).codes)
    assert not torch.equal(*losses)


def test_both_stages_in_sequence(built_path: Path, tmp_path: Path) -> None:
    """The first learns and moves its codes; the second takes them over, frozen, and its encoder learns."""
    options = {"max_steps": 3, "per_device_train_batch_size": 16, "use_cpu": True, "eval_strategy": "no"}
    words = tmp_path / "words"
    pretrain(
        "heartlang", built_path, words, model_options={"variant": "vq-hbr"}, learning_rate=1e-3, **options
    )
    first = AutoModelForPreTraining.from_pretrained(words)
    assert first.config.stage == "vq-hbr"
    assert first.vocabulary.codebook.fitted
    torch.testing.assert_close(first.vocabulary.codebook.codes.norm(dim=1), torch.ones(24))
    assert not any(name.startswith("heartlang") for name, _ in first.named_parameters())
    with pytest.raises(ModelFolderError, match="encoder"):
        AutoModel.from_pretrained(words)
    pretrain("heartlang", built_path, tmp_path / "sentences", teacher=words, **options)
    second = AutoModelForPreTraining.from_pretrained(tmp_path / "sentences")
    for name, value in second.vocabulary.state_dict().items():
        assert torch.equal(value, first.vocabulary.state_dict()[name]), name
    with pytest.raises(ConfigurationError, match="a vocabulary of its own"):
        HeartLangConfig.fields_of_teacher(ClearHugConfig.preset("micro"))
    with pytest.raises(ConfigurationError, match="clear-hug learns from no teacher"):
        pretrain("clear-hug", built_path, tmp_path / "other", teacher=words, **options)


def test_a_second_stage_alone_learns_its_vocabulary_first() -> None:
    torch.manual_seed(0)
    model = HeartLangForPreTraining(micro())
    batches = [{"input_values": records(16), "r_peaks": PEAKS.repeat(8, 1)} for _ in range(20)]
    with torch.no_grad():
        before = model.vocabulary(model.sentence(**batches[0])).reconstruction_loss
    model.before_training(iter(batches))
    with torch.no_grad():
        after = model.vocabulary(model.sentence(**batches[0])).reconstruction_loss
    assert after < 0.95 * before
    assert model.vocabulary.codebook.fitted
    assert not any(parameter.requires_grad for parameter in model.vocabulary.parameters())
    assert all(parameter.grad is None for parameter in model.heartlang.parameters())
    kept = {name: value.clone() for name, value in model.vocabulary.state_dict().items()}
    model.before_training(iter(batches))
    assert all(torch.equal(value, kept[name]) for name, value in model.vocabulary.state_dict().items())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"time_ids": None}, "need channel_ids and time_ids"),
        ({"lead_mask": torch.ones(2, 12)}, "take no lead_mask"),
        ({"input_values": torch.zeros(2, 12, 95)}, "96 samples"),
        ({"input_values": torch.zeros(2, 97, 96)}, "1 to 96 tokens"),
        ({"time_ids": torch.full((2, 12), 16)}, r"time_ids must be within 0\.\.15"),
        ({"channel_ids": torch.full((2, 12), -1)}, "channel_ids must be within"),
    ],
)
def test_beats_that_can_not_be_are_refused(changed: dict[str, Tensor | None], said: str) -> None:
    ids = torch.ones(2, 12, dtype=torch.long)
    given = {"input_values": torch.zeros(2, 12, 96), "channel_ids": ids, "time_ids": ids}
    model = HeartLangModel(micro()).eval()
    assert model(**given).last_hidden_state.shape == (2, 13, 32)
    with pytest.raises(ConfigurationError, match=said):
        model(**{**given, **changed})


def test_a_classifier_pools_beats_alone() -> None:
    """With attention over tokens what stands behind the last beat counts for nothing."""
    torch.manual_seed(0)
    config = micro(classifier_pooling="attention", attend_to_padding=False, num_labels=3, token_kernel_size=1)
    model = HeartLangForEcgClassification(config).eval()
    beats, ids = torch.randn(1, 8, 96), torch.tensor([[1, 1, 2, 2, 0, 0, 0, 0]])
    short = {"input_values": beats[:, :4], "channel_ids": ids[:, :4], "time_ids": ids[:, :4]}
    longer = {"input_values": beats, "channel_ids": ids, "time_ids": ids}
    torch.testing.assert_close(model(**short).logits, model(**longer).logits)
