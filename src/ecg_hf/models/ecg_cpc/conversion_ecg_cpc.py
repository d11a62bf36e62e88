"""Official ECG-CPC checkpoints (Lightning state dicts) to this package's names and basis.

The official S4 layer stores its read-out in the complex eigenbasis of HiPPO's normal part and multiplied by
``I - dA^Lmax`` (its "length correction"); here it is a real vector in the original basis. Both follow exactly from
the checkpoint; computed in float64. Official file: ``clinical_ts/ts/s4_modules/s42.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.nn.backbones.hippo import discretize, hippo_legs

__all__ = ["FILES", "convert_official", "real_readout"]

FILES = OfficialFiles(
    names=("last_11597276.ckpt", "cpc_e10.ckpt"),
    repository="Figshare 30192604, https://github.com/AI4HealthUOL/ecg-pretraining-strategies",
    size_bytes=12_779_520,
    parity="fixture, 1e-5: stem, kernel, context, loss",
    keys=("encoder.layers.0.0.weight", "predictor.predictor.s4_layers.0.kernel.kernel.C"),
)

_SAMPLING_RATE = 240  # that of every official checkpoint; the tensors don't state it
_RECORD_SECONDS = 10


def convert_official(state: OfficialState, *, num_samples: int | None = None) -> Converted:
    """Convert a whole training module or its encoder alone, with or without the prefix ``ts_encoder.``.

    All sizes are inferred from shapes; the window is the length the state spaces were corrected for (``omega``).
    A bidirectional network, which the authors pretrain by other objectives, becomes an encoder: the head of its
    pretraining is left out, because CPC can't go on with a network that sees the future.

    Args:
        state: The official tensors.
        num_samples: Samples of a record at 240 Hz. By default 10 s, cut into windows, if the checkpoint's window is
            a part of that; otherwise its window is the record.

    Raises:
        ConversionError: Sizes can't be read, or the state spaces are not frozen HiPPO-LegS.
    """
    prefix = "ts_encoder." if state.has("ts_encoder.") else ""
    stem, stack = f"{prefix}encoder.layers.{{}}.", f"{prefix}predictor.predictor.s4_layers.{{}}."
    convolutions = max(state.count(stem), 1)
    layers = max(state.count(stack), 1)
    shapes = [state.require_shape(f"{stem.format(i)}0.weight", 3) for i in range(convolutions)]
    hidden_size, leads, _ = shapes[0]
    kernel = f"{stack.format(0)}kernel.kernel."
    directions, _, pairs, _ = state.require_shape(f"{kernel}C", 4)
    window_tokens = 2 * (state.require_shape(f"{kernel}omega", 2)[0] - 1)
    if leads != 12:
        raise ConversionError(f"the stem has {leads} input leads, not 12", value=leads)

    strides = [2] + [1] * (convolutions - 1)
    window = 2 * window_tokens
    record = _RECORD_SECONDS * _SAMPLING_RATE if num_samples is None else num_samples
    if num_samples is None and (window > record or record % window):
        record = window
    config = EcgCpcConfig(
        sampling_rate=_SAMPLING_RATE,
        num_samples=record,
        window_samples=window if window < record else None,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        state_size=2 * pairs,
        stem_kernel_sizes=[shape[2] for shape in shapes],
        stem_strides=strides,
        bidirectional=directions == 2,
        steps_predicted=min(14, window_tokens // 4),
        classifier_num_heads=16 if hidden_size % 16 == 0 else 1,
    )
    has_head = state.has(f"{prefix}head_ssl.")
    role_is_pretraining = has_head and not config.bidirectional
    ours = "ecg_cpc." if role_is_pretraining else ""
    weights: dict[str, Tensor] = {}
    for i, (out, inside, width) in enumerate(shapes):
        key, target = stem.format(i), f"{ours}encoder.{i}."
        weights[f"{target}conv.weight"] = state.take(f"{key}0.weight", out, inside, width)
        for name in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{target}norm.{name}"] = state.take(f"{key}1.{name}", hidden_size)
        weights[f"{target}norm.num_batches_tracked"] = state.take(f"{key}1.num_batches_tracked")
    for i in range(layers):
        target = f"{ours}context.blocks.{i}."
        for name, value in _layer(state, stack.format(i), config, directions, window_tokens).items():
            weights[f"{target}s4.{name}"] = value
        for name in ("weight", "bias"):
            key = f"{prefix}predictor.predictor.norms.{i}.{name}"
            weights[f"{target}norm.{name}"] = state.take(key, hidden_size)
    notes = [
        f"stem strides {strides} are the official configuration's, tensors do not tell them",
        f"its state spaces were saved for {window_tokens} tokens, {window / _SAMPLING_RATE:g} s at 240 Hz",
    ]
    if role_is_pretraining:
        weights["prediction_head.weight"] = state.take(
            f"{prefix}head_ssl.proj.0.weight", hidden_size, hidden_size
        )
    elif config.bidirectional:
        for key in list(state.keys()):
            if key.startswith(f"{prefix}head_ssl."):
                state.ignore(key)
        notes.append(
            "it is bidirectional, an encoder alone: CPC predicts the future, which this network sees"
            + (", so the head of its pretraining was left out" if has_head else "")
        )
    else:
        notes.append("the checkpoint has no prediction head: pretraining can't be continued from it")
    return Converted(config, weights, "pretraining" if role_is_pretraining else "model", tuple(notes))


def _layer(
    state: OfficialState, key: str, config: EcgCpcConfig, directions: int, window_tokens: int
) -> dict[str, Tensor]:
    """One S4 layer under our names."""
    hidden, pairs, kernel = config.hidden_size, config.state_size // 2, f"{key}kernel.kernel."
    eigenvalues = torch.view_as_complex(state.take(f"{kernel}w", hidden, pairs, 2).double())
    drive = torch.view_as_complex(state.take(f"{kernel}B", 1, hidden, pairs, 2).double())[0]
    readout = torch.view_as_complex(state.take(f"{kernel}C", directions, hidden, pairs, 2).double())
    log_dt = state.take(f"{kernel}log_dt", hidden)
    # These follow from the tensors taken: frequencies of the official Cauchy kernel and the low-rank part of HiPPO.
    state.take(f"{kernel}omega", window_tokens // 2 + 1, 2)
    for name in ("z", "P", "Q"):
        state.ignore(f"{kernel}{name}")
    return {
        "C": real_readout(eigenvalues, drive, readout, log_dt, window_tokens).float(),
        "D": state.take(f"{key}D", 1, hidden)[0],
        "log_dt": log_dt,
        "output.weight": state.take(f"{key}output_linear.0.weight", 2 * hidden, hidden),
        "output.bias": state.take(f"{key}output_linear.0.bias", 2 * hidden, 1)[:, 0],
    }


def real_readout(
    eigenvalues: Tensor, drive: Tensor, readout: Tensor, log_dt: Tensor, corrected_for: int
) -> Tensor:
    """The read-out C as a real vector in the HiPPO-LegS basis.

    HiPPO's A plus ``P P^T``, ``P[n] = sqrt(n + 1/2)``, is ``-1/2`` plus a skew-symmetric matrix, whose eigenvectors V
    are orthonormal. Each official state belongs to one of them, up to a phase that the official B tells
    (``V^H B``); conjugate pairs are stored once. So ``C~ = 2 Re(sum_n C_n conj(V_n))``, and the length correction
    is undone by ``C = C~ (I - dA^L)^-1``.

    Args:
        eigenvalues: complex128 ``(features, N / 2)``.
        drive: complex128 ``(features, N / 2)``, the official B.
        readout: complex128 ``(directions, features, N / 2)``, the official C.
        log_dt: float ``(features,)``.
        corrected_for: Lmax of the length correction.

    Returns:
        float64 ``(directions, features, N)``.

    Raises:
        ConversionError: if eigenvalues or B are not those of HiPPO-LegS.
    """
    size = 2 * eigenvalues.shape[-1]
    a, b = hippo_legs(size)
    low_rank = (torch.arange(size, dtype=torch.float64) + 0.5).sqrt()
    skew = a + torch.outer(low_rank, low_rank) + 0.5 * torch.eye(size, dtype=torch.float64)
    frequencies, vectors = torch.linalg.eigh(-1j * skew)
    expected = torch.complex(torch.full_like(frequencies, -0.5), frequencies)
    distance, member = (eigenvalues[..., None] - expected).abs().min(-1)
    basis = vectors.T[member]  # (features, N / 2, N)
    ratio = drive / (basis.conj() @ b.to(basis.dtype))
    if distance.max() > 1e-3 * expected.abs().max() or (ratio.abs() - 1.0).abs().max() > 1e-3:
        raise ConversionError("the state spaces are not those of HiPPO-LegS: w or B differ from it")
    # V^H B must equal the official B, so multiply V by the conjugate of the ratio's phase.
    basis = basis * (ratio / ratio.abs()).conj()[..., None]
    corrected = 2.0 * torch.einsum("chn,hnm->chm", readout, basis.conj()).real
    transition = discretize(log_dt, size).transition
    identity = torch.eye(size, dtype=torch.float64)
    correction = identity - torch.linalg.matrix_power(transition, corrected_for)
    readout_in_rows: Tensor = torch.linalg.solve(correction, corrected.transpose(0, 1), left=False)
    return readout_in_rows.transpose(0, 1)
