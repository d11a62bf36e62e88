"""Zero-shot scores against the official code's numbers, and the prompts behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ecg_hf.data.labels import LABEL_TASKS, label_names
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.rows import scored_row
from ecg_hf.evaluation.zero_shot import (
    BILINGUAL_PROMPTS,
    SCP_PROMPTS,
    cosine_scores,
    encode_prompts,
    load_prompts,
    prompts_for,
)


@pytest.mark.fixtures
def test_equal_to_merls_evaluation(shared_fixtures: Path) -> None:
    fixture = load_file(shared_fixtures / "merl" / "zeroshot.safetensors")
    text = fixture["out.class_weights_DxK"].T
    scores = cosine_scores(fixture["input.ecg_emb"], text)
    np.testing.assert_allclose(scores, fixture["out.logits"], atol=1e-6)
    row, _ = scored_row(
        fixture["input.labels"].astype(bool), scores, ["a", "b", "c", "d"], {}, None,
        patients=None, n_resamples=50, seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(
        [c["auroc"] for c in row["classes"]], fixture["out.auroc_per_class"], atol=1e-9
    )
    assert row["macro_auroc"] == pytest.approx(float(fixture["out.macro_auroc"]), abs=1e-9)
    assert row["ci95"][0] < row["macro_auroc"] < row["ci95"][1]


@pytest.mark.fixtures
def test_text_tower_parity(shared_fixtures: Path) -> None:
    """Class weights from the pooled text vectors, through the official projection."""
    fixture = load_file(shared_fixtures / "merl" / "zeroshot.safetensors")
    pooled = torch.from_numpy(fixture["input.text_pooler_output"])
    hidden = torch.nn.functional.gelu(
        pooled @ torch.from_numpy(fixture["state.proj_t.0.weight"]).T
        + torch.from_numpy(fixture["state.proj_t.0.bias"])
    )
    projected = hidden @ torch.from_numpy(fixture["state.proj_t.2.weight"]).T + torch.from_numpy(
        fixture["state.proj_t.2.bias"]
    )

    class Stub(torch.nn.Linear):
        def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return projected[input_ids[:, 0]]

    def tokenizer(texts: list[str], **_: object) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[int(text)] for text in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    features = encode_prompts(Stub(1, 1), tokenizer, ["0", "1", "2", "3"])
    np.testing.assert_allclose(features, fixture["out.class_weights_DxK"].T, atol=1e-5)


def test_cosine_ignores_length_and_refuses_zero() -> None:
    rng = np.random.default_rng(0)
    ecg, text = rng.normal(size=(5, 3)), rng.normal(size=(2, 3))
    np.testing.assert_allclose(cosine_scores(ecg * 7, text), cosine_scores(ecg, text * 0.1))
    with pytest.raises(ConfigurationError, match="record 2"):
        cosine_scores(ecg * np.array([[1], [1], [0], [1], [1]]), text)
    with pytest.raises(ConfigurationError, match="dimensions"):
        cosine_scores(ecg, text[:, :2])


class HashTower(torch.nn.Module):
    """Text features that depend on the text alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(97, 4)
        self.texts: list[str] = []

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return self.table(input_ids).sum(dim=1)

    def tokenizer(self, texts: list[str], **options: object) -> dict[str, torch.Tensor]:
        assert options["truncation"]
        self.texts += texts
        ids = torch.tensor([[sum(map(ord, text)) % 97] for text in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_prompts_are_lowered_averaged_and_batched() -> None:
    model = HashTower().train()
    features = encode_prompts(model, model.tokenizer, {"A": "Normal ECG", "B": ["x", "Y"]}, batch_size=2)
    assert model.texts == ["normal ecg", "x", "y"]
    assert model.training
    assert features.shape == (2, 4)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-6)
    single = encode_prompts(model, model.tokenizer, ["x", "y"])
    mean = single.mean(axis=0)
    np.testing.assert_allclose(features[1], mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(ConfigurationError, match="empty"):
        encode_prompts(model, model.tokenizer, {"A": " "})


def test_every_label_of_every_task_has_a_distinct_prompt() -> None:
    for task in LABEL_TASKS:
        texts = prompts_for(label_names(task))
        assert list(texts) == list(label_names(task))
        assert len(set(texts.values())) == len(texts), task
    assert set(SCP_PROMPTS) == set(label_names("all"))


def test_underscores_do_not_matter() -> None:
    assert prompts_for(["AVB", "NST", "ISC_"]) == {
        "AVB": "AV block",
        "NST": SCP_PROMPTS["NST_"],
        "ISC_": SCP_PROMPTS["ISC_"],
    }
    with pytest.raises(ConfigurationError, match="XYZ"):
        prompts_for(["NORM", "XYZ"])


@pytest.mark.fixtures
def test_ckepe_covers_all_labels(merl_tables: Path) -> None:
    path = merl_tables / "CKEPE_prompt.json"
    prompts = load_prompts(path)
    assert prompts == json.loads(path.read_text())
    texts = prompts_for(label_names("sub"), prompts)
    assert texts["_AVB"] == prompts["AVB"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"A": 1}', '{"A": " "}'])
def test_bad_prompt_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "prompts.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"prompts\.json"):
        load_prompts(path)


def test_a_class_without_a_known_word_scores_zero_and_is_named(caplog: pytest.LogCaptureFixture):
    features = np.array([[1.0, 0.0], [0.0, 1.0]])
    scores = cosine_scores(features, [[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(scores, [[0.0, 0.6], [0.0, 0.8]])

    class Terms(torch.nn.Linear):
        def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(input_ids[:, 0], 3)[:, 1:].float()

    def tokenizer(texts: list[str], **options: object) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[{"known": 1, "other": 2}.get(text, 0)] for text in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    found = encode_prompts(Terms(1, 1), tokenizer, ["known", "foreign", ["other", "foreign"]])
    assert found.tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    assert "'foreign'" in caplog.text


def test_bilingual_prompts_cover_every_label_and_say_superclasses_in_several_texts():
    prompts = prompts_for([name for task in LABEL_TASKS for name in label_names(task)], BILINGUAL_PROMPTS)
    assert all(len(prompts[name]) > 3 for name in label_names("super"))
    assert prompts["AFIB"] == SCP_PROMPTS["AFIB"]
