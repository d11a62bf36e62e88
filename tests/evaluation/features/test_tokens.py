"""Tokens in one pass: the right numbers and masks, resumable, sized before written, never those of something else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from ecg_hf.errors import ConfigurationError, NonFiniteSignal
from ecg_hf.evaluation.features import store as token_store
from ecg_hf.evaluation.features.store import TokenFeatures, read_tokens
from ecg_hf.evaluation.features.tokens import embed_tokens
from ecg_hf.signal.record import EcgRecord

from .test_pooled import TinyExtractor, records
from .test_pooled_models import parts  # noqa: F401  (fixture)

PATCH, DIM = 10, 4


class TinyTokens(nn.Module):
    """One token per patch of 10 samples of each of 3 leads: 15 tokens of 4 numbers; counts its records."""

    def __init__(self, **config: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            **{"num_leads": 3, "patch_size": PATCH, **config}, to_dict=lambda: config
        )
        self.linear = nn.Linear(PATCH, DIM)
        self.records = 0
        self.fail_after: int | None = None
        self.scale = 1.0

    def forward(self, input_values: torch.Tensor, lead_mask: torch.Tensor | None = None) -> SimpleNamespace:
        if self.fail_after is not None and self.records >= self.fail_after:
            raise KeyboardInterrupt
        self.records += len(input_values)
        tokens = self.linear(input_values.unflatten(-1, (-1, PATCH))).flatten(1, 2)
        return SimpleNamespace(last_hidden_state=self.scale * tokens, pooler_output=tokens.mean(1))


class MaskedTokens(TinyTokens):
    """The same with a mask: the last lead of the first record of every batch is missing."""

    def token_mask(
        self, input_values: torch.Tensor, lead_mask: torch.Tensor | None = None, sample_mask: Any = None
    ) -> torch.Tensor:
        assert lead_mask is not None
        mask = torch.ones(len(input_values), 15, dtype=torch.bool)
        mask[0, 10:] = False
        return mask


def expected(model: TinyTokens, rows: list[EcgRecord]) -> np.ndarray:
    x = torch.from_numpy(np.stack([r.signal for r in rows]))
    with torch.no_grad():
        return model.linear(x.unflatten(-1, (-1, PATCH))).flatten(1, 2).numpy()


def test_values_are_the_models_in_half_precision(tmp_path: Path) -> None:
    model, rows = TinyTokens(), records()
    truth = expected(model, rows)
    in_memory = embed_tokens(model, TinyExtractor(), rows, batch_size=5, progress=False)
    on_disk = embed_tokens(model, TinyExtractor(), rows, batch_size=5, progress=False, output=tmp_path / "t")
    exact = embed_tokens(model, TinyExtractor(), rows, batch_size=5, dtype="float32", progress=False)
    assert in_memory.shape == (23, 15, DIM)
    assert in_memory.values.dtype == on_disk.values.dtype == np.float16
    assert isinstance(on_disk.values, np.memmap)
    assert in_memory.mask is None
    assert on_disk.mask is None
    np.testing.assert_array_equal(in_memory.values, on_disk.values)
    np.testing.assert_allclose(in_memory.values, truth, rtol=6e-4, atol=1e-6)
    # Sums of other batches run in another order.
    np.testing.assert_allclose(exact.values, truth, rtol=1e-5, atol=5e-6)


def test_file_is_plain_safetensors(tmp_path: Path) -> None:
    path, model = tmp_path / "t.safetensors", MaskedTokens()
    tokens = embed_tokens(model, TinyExtractor(), records(), batch_size=5, output=path, progress=False)
    with safe_open(path, framework="np") as file:
        assert sorted(file.keys()) == ["token_mask", "tokens"]
        np.testing.assert_array_equal(file.get_tensor("tokens"), tokens.values)
        np.testing.assert_array_equal(file.get_tensor("token_mask"), tokens.mask)
        assert file.metadata()["features"] == "tokens"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_masked_tokens_are_marked_and_zero() -> None:
    model = MaskedTokens()
    with torch.no_grad():
        model.linear.bias += 3.0
    tokens = embed_tokens(model, TinyExtractor(), records(), batch_size=5, progress=False)
    assert tokens.mask is not None
    assert (~tokens.mask).sum() == 5 * 5
    assert not tokens.mask[[0, 5, 10, 15, 20], 10:].any()
    assert not tokens.values[~tokens.mask].any()
    assert np.abs(tokens.values[tokens.mask]).min(axis=1).max() > 0


def test_pooled_groups_stay_within_a_lead() -> None:
    model, rows = TinyTokens(), records()
    truth = expected(model, rows).reshape(23, 3, 5, DIM)
    pairs = embed_tokens(model, TinyExtractor(), rows, pool_tokens=2, dtype="float32", progress=False)
    assert pairs.shape == (23, 9, DIM), "five patches of a lead are two pairs and a single one"
    wanted = np.stack([truth[:, :, :2].mean(2), truth[:, :, 2:4].mean(2), truth[:, :, 4]], axis=2)
    np.testing.assert_allclose(pairs.values, wanted.reshape(23, 9, DIM), rtol=1e-5, atol=1e-6)


def test_pooling_leaves_masked_tokens_out() -> None:
    class Ragged(MaskedTokens):
        def token_mask(
            self, input_values: torch.Tensor, lead_mask: Any = None, sample_mask: Any = None
        ) -> Any:
            mask = super().token_mask(input_values, lead_mask)
            mask[:, 1] = False
            return mask

    model, rows = Ragged(), records(4)
    truth = expected(model, rows)
    tokens = embed_tokens(model, TinyExtractor(), rows, pool_tokens=2, dtype="float32", progress=False)
    np.testing.assert_allclose(tokens.values[:, 0], truth[:, 0], rtol=1e-5, atol=1e-6)
    assert tokens.mask is not None
    assert tokens.mask[1].all()
    assert tokens.mask[0].tolist() == [True] * 6 + [False] * 3


def test_unknown_layout_is_not_guessed() -> None:
    model, rows = TinyTokens(num_leads=2), records(4)
    assert embed_tokens(model, TinyExtractor(), rows, progress=False).shape == (4, 15, DIM)
    with pytest.raises(ConfigurationError, match="run_length"):
        embed_tokens(model, TinyExtractor(), rows, pool_tokens=5, progress=False)
    pooled = embed_tokens(model, TinyExtractor(), rows, pool_tokens=5, run_length=15, progress=False)
    assert pooled.shape == (4, 3, DIM)
    with pytest.raises(ConfigurationError, match="runs of 4"):
        embed_tokens(model, TinyExtractor(), rows, pool_tokens=2, run_length=4, progress=False)


def test_windows_come_from_the_configuration(tmp_path: Path) -> None:
    model, rows = TinyTokens(window_samples=10), records(4)
    tokens = embed_tokens(model, TinyExtractor(), rows, output=tmp_path / "t", progress=False)
    assert tokens.windows == read_tokens(tmp_path / "t").windows == 5
    with pytest.raises(ConfigurationError, match="no 4 windows"):
        embed_tokens(model, TinyExtractor(), rows, windows=4, progress=False)


def test_windows_the_model_left_incomplete_are_filled_up() -> None:
    class OneSequence(TinyTokens):
        def forward(
            self, input_values: torch.Tensor, lead_mask: torch.Tensor | None = None
        ) -> SimpleNamespace:
            return super().forward(input_values[:, :1], lead_mask)

    model, rows = OneSequence(window_samples=20), records(4)
    tokens = embed_tokens(model, TinyExtractor(), rows, dtype="float32", progress=False)
    assert (tokens.shape, tokens.windows) == ((4, 6, DIM), 3)
    np.testing.assert_allclose(tokens.values[:, :5], expected(model, rows)[:, :5], rtol=1e-5, atol=5e-6)
    assert tokens.mask is not None
    assert tokens.mask.tolist() == [[True] * 5 + [False]] * 4
    assert tokens.window_weights().tolist() == [[1.0, 1.0, 0.5]] * 4
    pooled = embed_tokens(model, TinyExtractor(), rows, dtype="float32", pool_tokens=2, progress=False)
    np.testing.assert_allclose(pooled.values[:, 2], tokens.values[:, 4])
    model.config.window_samples = None
    assert embed_tokens(model, TinyExtractor(), rows, pool_tokens=2, progress=False).shape == (4, 3, DIM)


def test_killed_run_continues_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store, "FLUSH_RECORDS", 8)
    model, rows, output = MaskedTokens(), records(), tmp_path / "run" / "tokens.safetensors"
    whole = embed_tokens(model, TinyExtractor(), rows, batch_size=4, progress=False)
    model.records, model.fail_after = 0, 20
    with pytest.raises(KeyboardInterrupt):
        embed_tokens(model, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert not output.exists()
    model.records, model.fail_after = 0, None
    resumed = embed_tokens(model, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert model.records == 23 - 16, "what was flushed is not computed again"
    np.testing.assert_array_equal(resumed.values, whole.values)
    np.testing.assert_array_equal(resumed.mask, whole.mask)
    assert [p.name for p in output.parent.iterdir()] == [output.name]
    again = embed_tokens(model, TinyExtractor(), rows, output=output, progress=False)
    assert model.records == 23 - 16
    np.testing.assert_array_equal(again.values, whole.values)


def test_work_of_another_model_is_never_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store, "FLUSH_RECORDS", 4)
    output, rows = tmp_path / "t", records()
    first, second = TinyTokens(), TinyTokens()
    first.fail_after = 12
    with pytest.raises(KeyboardInterrupt):
        embed_tokens(first, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    tokens = embed_tokens(second, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert second.records == 23
    np.testing.assert_allclose(tokens.values, expected(second, rows), rtol=6e-4, atol=1e-6)


def test_cache_is_of_one_model_preprocessing_dataset_and_setting(tmp_path: Path) -> None:
    model, rows = TinyTokens(), records(6)

    def run(extractor: TinyExtractor, data: list[EcgRecord], **settings: Any) -> bool:
        model.records = 0
        embed_tokens(model, extractor, data, cache_dir=tmp_path, progress=False, **settings)
        return model.records > 0

    assert run(TinyExtractor(), rows)
    assert not run(TinyExtractor(), rows)
    assert run(TinyExtractor(2.0), rows)
    assert run(TinyExtractor(), rows[::-1])
    assert run(TinyExtractor(), rows, dtype="float32")
    assert run(TinyExtractor(), rows, pool_tokens=2)
    assert run(TinyExtractor(), rows, windows=3)
    with torch.no_grad():
        model.linear.bias[0] += 1e-6
    assert run(TinyExtractor(), rows)
    assert len(list(tmp_path.iterdir())) == 7


def test_output_of_something_else_is_refused(tmp_path: Path) -> None:
    output, rows = tmp_path / "t", records(6)
    embed_tokens(TinyTokens(), TinyExtractor(), rows, output=output, progress=False)
    other = TinyTokens()
    with pytest.raises(ConfigurationError, match="another model"):
        embed_tokens(other, TinyExtractor(), rows, output=output, progress=False)
    tokens = embed_tokens(other, TinyExtractor(), rows, output=output, overwrite=True, progress=False)
    np.testing.assert_allclose(tokens.values, expected(other, rows), rtol=6e-4, atol=1e-6)
    output.write_bytes(output.read_bytes()[:-1])
    with pytest.raises(ConfigurationError, match="another model"):
        embed_tokens(other, TinyExtractor(), rows, output=output, progress=False)
    with pytest.raises(ConfigurationError, match="not a readable file of tokens"):
        read_tokens(output)


def test_size_is_checked_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows, output = TinyTokens(), records(), tmp_path / "t"
    needed = 23 * 15 * DIM * 2 + 23 * 15
    with pytest.raises(ConfigurationError, match=r"23 records x 15 tokens x 4 need 0\.00 MB") as caught:
        embed_tokens(
            model, TinyExtractor(), rows, batch_size=5, output=output, max_bytes=needed - 1, progress=False
        )
    assert caught.value.value == needed
    assert model.records == 5, "one batch tells the shape"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(ConfigurationError, match="free on the disk"):
        embed_tokens(model, TinyExtractor(), rows, output=output, progress=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=needed - 1))
    with pytest.raises(ConfigurationError, match="of memory available"):
        embed_tokens(model, TinyExtractor(), rows, progress=False)
    embed_tokens(model, TinyExtractor(), rows, output=output, max_bytes=needed, progress=False)


def test_what_half_precision_cannot_hold_is_an_error() -> None:
    model, rows = TinyTokens(), records(9)
    model.scale = 1e7
    with pytest.raises(NonFiniteSignal, match="store float32"):
        embed_tokens(model, TinyExtractor(), rows, progress=False)
    embed_tokens(model, TinyExtractor(), rows, dtype="float32", progress=False)
    model.scale = 1.0
    rows[7] = EcgRecord(np.full((3, 50), np.nan, np.float32), 100.0, rows[0].lead_names)
    with pytest.raises(NonFiniteSignal, match="record 7 is not finite"):
        embed_tokens(model, TinyExtractor(), rows, batch_size=4, progress=False)


def test_selection_reads_the_chosen_rows() -> None:
    values = np.arange(5 * 2 * 3, dtype=np.float16).reshape(5, 2, 3)
    mask = np.ones((5, 2), bool)
    mask[3, 1] = False
    chosen = TokenFeatures(values, mask).select([4, 3, 0]).select([1, 2])
    assert chosen.shape == (2, 2, 3)
    taken, taken_mask = chosen.take(np.array([1, 0]))
    assert taken.dtype == np.float16
    np.testing.assert_array_equal(taken, values[[0, 3]])
    np.testing.assert_array_equal(taken_mask, mask[[0, 3]])


def test_one_window_of_each_record() -> None:
    values = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]], bool)
    tokens = TokenFeatures(values, mask, windows=2).select([1, 0, 2])
    taken, taken_mask = tokens.take(np.array([0, 1]), np.array([1, 0]))
    np.testing.assert_array_equal(taken, [values[1, 2:], values[0, :2]])
    np.testing.assert_array_equal(taken_mask, [[True, True], [True, True]])
    assert tokens.window_weights().tolist() == [[0.5, 1.0], [1.0, 0.0], [1.0, 1.0]]
    assert TokenFeatures(values, windows=4).select([0]).window_weights().tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    ("values", "mask", "windows"),
    [
        (np.zeros((2, 3)), None, 1),
        (np.zeros((2, 3, 4), int), None, 1),
        (np.zeros((2, 3, 4)), np.ones((2, 2), bool), 1),
        (np.zeros((2, 3, 4)), np.ones((2, 3)), 1),
        (np.zeros((2, 3, 4)), None, 2),
    ],
)
def test_parts_must_fit(values: np.ndarray, mask: np.ndarray | None, windows: int) -> None:
    with pytest.raises(ConfigurationError):
        TokenFeatures(values, mask, windows)


def test_bad_requests() -> None:
    model, extractor, rows = TinyTokens(), TinyExtractor(), records(3)
    with pytest.raises(ConfigurationError, match="no records"):
        embed_tokens(model, extractor, [])
    for name in ("batch_size", "pool_tokens", "run_length", "windows"):
        with pytest.raises(ConfigurationError, match=name):
            embed_tokens(model, extractor, rows, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not both"):
        embed_tokens(model, extractor, rows, output="a", cache_dir="b")
    with pytest.raises(ConfigurationError, match="dtype"):
        embed_tokens(model, extractor, rows, dtype="float64")  # type: ignore[arg-type]


def test_every_method_gives_its_tokens(parts: tuple[Any, Any, Any], tmp_path: Path) -> None:  # noqa: F811
    model, extractor, table = parts
    tokens = embed_tokens(
        model, extractor, table, batch_size=3, cache_dir=tmp_path, dtype="float32", progress=False
    )
    model.eval()
    inputs = extractor([table[i]["ecg"] for i in range(len(table))], return_tensors="pt")
    with torch.no_grad():
        truth = model(**inputs).last_hidden_state.numpy()
    there = np.ones(truth.shape[:2], bool) if tokens.mask is None else tokens.mask
    np.testing.assert_allclose(tokens.values[there], truth[there], rtol=1e-3, atol=1e-4)
    assert there.any(axis=1).all()
    assert not tokens.values[~there].any()


def test_an_extractor_that_does_not_fit_is_refused() -> None:
    from ecg_hf.models.registry import METHODS
    from ecg_hf.processing import EcgFeatureExtractor

    spec = METHODS["ecg-jepa"]
    model = spec.load("model")(spec.load("config").preset("micro"))
    with pytest.raises(ConfigurationError, match="240"):
        embed_tokens(model, EcgFeatureExtractor(sampling_rate=240), records(2), progress=False)
