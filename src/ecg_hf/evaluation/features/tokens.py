"""Embed once, token by token: what a frozen encoder gives before pooling, kept in a memory-mapped file.

The attention probe reads these. A file of tokens is ``tokens`` times the size of a file of pooled embeddings (2,000
records of 300 tokens of 128 numbers are 154 MB in float16), so the size is checked before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, NonFiniteSignal
from ecg_hf.evaluation.features.pooled import (
    OTHER_CONTENT,
    accepted,
    accepted_arguments,
    check_fit,
    content_metadata,
    content_path,
    encode_batches,
    evaluating,
    output_field,
)
from ecg_hf.evaluation.features.store import TYPES, TokenFeatures, TokenStore, read_tokens, stored_key
from ecg_hf.files import sole_writer
from ecg_hf.metrics.ranking import BoolArray
from ecg_hf.progress import progress_bar

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torch import nn

__all__ = ["embed_tokens"]


def embed_tokens(
    model: nn.Module,
    feature_extractor: Any,
    dataset: Dataset | Sequence[Any],
    *,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    column: str = "ecg",
    dtype: Literal["float16", "float32"] = "float16",
    pool_tokens: int = 1,
    run_length: int | None = None,
    windows: int | None = None,
    output: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    max_bytes: int | None = None,
    progress: bool = True,
) -> TokenFeatures:
    """Tokens (``last_hidden_state``) of every record, in the order of ``dataset``.

    The rules are those of :func:`ecg_hf.evaluation.embed_dataset`: one pass in inference mode; a finished file of the
    same model, preprocessing, recordings and settings is returned as it is, one of anything else never; a killed
    call continues. The file is plain safetensors (``tokens``, ``token_mask``) and is returned memory-mapped.

    Args:
        model: Encoder. Where it has a method ``token_mask``, tokens of missing leads and padding are marked (and
            written as zeros).
        feature_extractor: The model's own.
        dataset: Dataset with an ``Ecg`` column, or a sequence of ``EcgRecord`` or decoded dictionaries.
        batch_size: Records per forward pass.
        device: Where to run; the model's own device by default.
        column: Name of the ECG column.
        dtype: Stored type. float16 keeps 11 bits: a relative error up to 5e-4 for values between 6e-5 and 65504.
        pool_tokens: Mean over groups of this many consecutive tokens of one lead (or window), to make long
            recordings affordable; the last group of a lead may be smaller. No published protocol does this.
        run_length: Consecutive tokens that belong together, within which ``pool_tokens`` groups. By default a window,
            or the patches of one lead where the configuration tells.
        windows: Equal consecutive windows the tokens consist of; by default what the configuration's
            ``window_samples`` says, else 1.
        output: File to write. Without it and ``cache_dir`` the tokens are kept in memory.
        cache_dir: Folder where the file is named by its content key instead.
        overwrite: Replace an ``output`` file that belongs to something else instead of refusing.
        max_bytes: Most bytes the tokens may take; by default what is free on the disk, or in memory.
        progress: Show a progress bar.

    Raises:
        ConfigurationError: if there is nothing to embed, the tokens need more than ``max_bytes`` or than is free, the
            model gives no tokens or a changing number of them, or ``output`` belongs to something else.
        NonFiniteSignal: if a token is not finite, or too large for float16.
    """
    n = len(dataset)
    if n == 0:
        raise ConfigurationError("there are no records to embed")
    for name, number in (
        ("batch_size", batch_size),
        ("pool_tokens", pool_tokens),
        ("run_length", run_length),
        ("windows", windows),
    ):
        if number is not None and number < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {number}", value=number)
    if dtype not in TYPES:
        raise ConfigurationError(f"dtype must be one of {', '.join(TYPES)}, got {dtype!r}", value=dtype)
    if output is not None and cache_dir is not None:
        raise ConfigurationError("give either an output file or a cache folder, not both")
    check_fit(model, feature_extractor)
    path: Path | None = None
    metadata: dict[str, str] = {}
    if output is not None or cache_dir is not None:
        metadata = content_metadata(
            model, feature_extractor, dataset, column,
            features="tokens", dtype=dtype, pool_tokens=pool_tokens, run_length=run_length, windows=windows,
        )  # fmt: skip
        path = content_path(output, cache_dir, metadata["key"])
        if path.is_file():
            if stored_key(path) == metadata["key"]:
                return read_tokens(path)
            if not overwrite and output is not None:
                raise ConfigurationError(OTHER_CONTENT, path=path)

    layout = _Layout(model, pool_tokens, run_length, windows)
    with nullcontext() if path is None else sole_writer(path), evaluating(model, device) as target:
        read = _reader(model, layout)
        store = TokenStore.resume(path, metadata, n)
        with progress_bar(n, "embedding tokens", "record", initial=store.done, show=progress) as bar:
            batches = encode_batches(
                read, feature_extractor, dataset, column=column, batch_size=batch_size, device=target,
                start=store.done,
            )  # fmt: skip
            for batch in batches:
                if store.values is None:
                    store.create(batch.values.shape[1:], layout.windows or 1, dtype, max_bytes)
                _check_finite(batch.values, np.dtype(dtype), store.done)
                store.append(batch.values, batch.mask)
                bar.update(len(batch))
        return store.finish()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Tokens of one batch: float32 ``(batch, tokens, dim)`` and bool ``(batch, tokens)`` or None."""

    values: npt.NDArray[np.float32]
    mask: BoolArray | None

    def __len__(self) -> int:
        return len(self.values)


class _Layout:
    """How a model's tokens are ordered: windows, and runs of tokens that may be averaged."""

    def __init__(
        self, model: nn.Module, pool_tokens: int, run_length: int | None, windows: int | None
    ) -> None:
        self.config: Any = getattr(model, "config", None)
        self.pool_tokens = pool_tokens
        self.run_length = run_length
        self.windows = windows

    def settle(self, input_values: torch.Tensor | None, tokens: int) -> tuple[int, int]:
        """Fill in what is left open from the first batch.

        Returns:
            The run length, and how many tokens are missing behind the last one to make whole windows: a model may
            leave out those of its last window that would be padding.
        """
        samples = 0 if input_values is None else int(input_values.shape[-1])
        length = int(getattr(self.config, "window_samples", None) or 0)
        patch = int(getattr(self.config, "patch_size", None) or 0)
        one_sequence = patch > 0 and tokens == -(-samples // patch)
        if self.windows is None:
            self.windows = max(1, -(-samples // length)) if length else 1
        missing = 0
        if self.windows > 1 and length and one_sequence:
            missing = self.windows * -(-length // patch) - tokens
        whole = tokens + missing
        if missing < 0 or whole % self.windows:
            raise ConfigurationError(f"{tokens} tokens are no {self.windows} windows", value=tokens)
        window = whole // self.windows
        if self.run_length is not None:
            run = self.run_length
        elif self.windows > 1 or self.pool_tokens == 1 or one_sequence:
            run = window
        else:
            run = self._run_of_a_lead(samples, patch, tokens)
        if window % run:
            raise ConfigurationError(
                f"runs of {run} tokens do not divide {window} tokens per window", value=run
            )
        return run, missing

    def _run_of_a_lead(self, samples: int, patch: int, tokens: int) -> int:
        leads = int(getattr(self.config, "num_leads", 0) or 0)
        if leads and patch and tokens == leads * (samples // patch):
            return samples // patch
        raise ConfigurationError(
            f"the configuration does not tell how {tokens} tokens are laid out: give run_length to pool tokens",
            value=tokens,
        )


def _reader(model: nn.Module, layout: _Layout) -> Callable[[dict[str, torch.Tensor]], _Batch]:
    """Tokens and mask of one batch, masked tokens zero, groups averaged on the device."""
    import torch
    from torch.nn import functional as F

    names = accepted_arguments(model.forward)
    mask_of = getattr(model, "token_mask", None)
    mask_names = None if mask_of is None else accepted_arguments(mask_of)

    def read(inputs: dict[str, torch.Tensor]) -> _Batch:
        tokens = output_field(model(**accepted(inputs, names)), "last_hidden_state").float()
        if tokens.ndim != 3:
            raise ConfigurationError(
                f"model gave last_hidden_state of shape {tuple(tokens.shape)}, tokens are wanted",
                value=tuple(tokens.shape),
            )
        mask = None if mask_of is None else mask_of(**accepted(inputs, mask_names))
        if mask is not None and mask.shape != tokens.shape[:2]:
            raise ConfigurationError(
                f"the model's token mask is {tuple(mask.shape)} for tokens {tuple(tokens.shape)}",
                value=tuple(mask.shape),
            )
        run, missing = layout.settle(inputs.get("input_values"), tokens.shape[1])
        if missing:
            mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
            tokens, mask = F.pad(tokens, (0, 0, 0, missing)), F.pad(mask.bool(), (0, missing))
        if mask is not None:
            # Not times zero: what stands in a masked place may be anything.
            tokens = torch.where(mask.bool().unsqueeze(-1), tokens, torch.zeros_like(tokens))
        if layout.pool_tokens > 1:
            tokens, mask = _pool(tokens, mask, layout.pool_tokens, run)
        flags = None if mask is None else mask.bool().cpu().numpy()
        return _Batch(tokens.cpu().numpy(), flags)

    return read


def _pool(
    tokens: torch.Tensor, mask: torch.Tensor | None, group: int, run: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mean of the tokens that hold signal in every group, ``(batch, tokens, dim)`` to fewer tokens."""
    import torch
    from torch.nn import functional as F

    batch, count, dim = tokens.shape
    weight = tokens.new_ones(batch, count) if mask is None else mask.to(tokens.dtype)
    missing = -run % group
    runs = F.pad(tokens.reshape(batch, count // run, run, dim), (0, 0, 0, missing))
    weights = F.pad(weight.reshape(batch, count // run, run), (0, missing))
    runs = runs.reshape(batch, -1, group, dim)
    weights = weights.reshape(batch, -1, group)
    total = weights.sum(-1)
    mean = (runs * weights.unsqueeze(-1)).sum(2) / total.clamp(min=1.0).unsqueeze(-1)
    return mean, None if mask is None else torch.gt(total, 0)


def _check_finite(values: npt.NDArray[np.float32], dtype: np.dtype[Any], first: int) -> None:
    bad = np.flatnonzero(~(np.abs(values) <= np.finfo(dtype).max).all(axis=(1, 2)))
    if len(bad):
        row = first + int(bad[0])
        finite = bool(np.isfinite(values[bad[0]]).all())
        reason = f"does not fit {dtype} (store float32)" if finite else "is not finite"
        raise NonFiniteSignal(f"a token of record {row} {reason}", value=row)
