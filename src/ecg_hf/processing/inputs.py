"""What callers pass as an ECG, sorted into stacks that can be processed as one array each.

Accepted: an :class:`~ecg_hf.signal.record.EcgRecord`; the mapping the ``Ecg`` dataset feature decodes to; a
numpy array, torch tensor or nested list ``(leads, samples)`` or ``(batch, leads, samples)``; a list of any of
these, with any mix of lengths, rates and leads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from transformers.utils import logging

from ecg_hf.errors import AmbiguousLayoutError, LeadError, SamplingRateError, SignalError, UnknownUnit
from ecg_hf.processing.backend import Array, ArrayBackend, NumpyBackend, is_torch_tensor
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.processing.windows import InputWindow
from ecg_hf.signal.gaps import without_padding
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.record import EcgRecord, check_keys
from ecg_hf.signal.units import checked_sampling_rate, millivolts_per_unit

__all__ = [
    "MODIFIED_LEADS",
    "EcgInput",
    "EcgStack",
    "Layout",
    "as_batch",
    "in_order",
    "parse_inputs",
    "select_backend",
    "stack_inputs",
    "tensor_device",
]

Layout = Literal["leads_first", "samples_first"]

MODIFIED_LEADS = {
    **{f"ML{limb}": limb for limb in ("I", "II", "III")},
    **{f"{prefix}{number}": f"V{number}" for prefix in ("MCL", "MV") for number in range(1, 7)},
    **dict.fromkeys(("CM5", "CC5", "CS5"), "V5"),
}
"""Leads of monitors and Holter recorders, in capitals, and the standard lead each is treated as."""

logger = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class EcgInput:
    """One checked input, not yet converted.

    Attributes:
        signal: Real array ``(leads, samples)``, or ``(records, leads, samples)`` when a whole batch was
            passed as one array.
        lead_names: Canonical names of the rows.
        sampling_rate: Hertz.
        scale: Millivolts per unit of ``signal``.
        assumptions: Codes and details of what was assumed.
        window: Which part of the recording ``signal`` is, once cut; None before.
    """

    signal: Array
    lead_names: tuple[str, ...]
    sampling_rate: float
    scale: float
    assumptions: tuple[tuple[str, str], ...] = ()
    window: InputWindow | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EcgStack:
    """Records that agree in leads, rate and length, as one array.

    Attributes:
        signal: float32 ``(records, leads, samples)`` in millivolts; possibly the caller's own memory.
        lead_names: Canonical names of the rows.
        sampling_rate: Hertz.
        positions: int64 ``(records,)``: places of the records in the caller's batch.
        window: Which part of the recordings ``signal`` is; its ``length`` is that of the first record.
        extremes: Minimum and maximum of each lead ``(records, leads)``, known only if all samples are valid.
    """

    signal: Array
    lead_names: tuple[str, ...]
    sampling_rate: float
    positions: npt.NDArray[np.int64]
    window: InputWindow
    extremes: tuple[Array, Array] | None = None


@dataclass(frozen=True, slots=True)
class _Defaults:
    """Metadata for arrays that carry none."""

    sampling_rate: float | None
    lead_names: tuple[str, ...] | None
    scale: float
    unit: str
    layout: Layout | None
    expected_rate: float
    expected_leads: tuple[str, ...]


def as_batch(ecg: Any) -> Any:
    """``ecg``, as a list if it is a sequence of another kind, such as a column of a ``datasets.Dataset``."""
    other = isinstance(ecg, Sequence) and not isinstance(ecg, list | tuple | str | bytes)
    return list(ecg) if other else ecg


def parse_inputs(
    ecg: Any,
    *,
    sampling_rate: float | None,
    lead_names: Sequence[str] | None,
    unit: str,
    layout: Layout | None,
    expected_rate: float,
    expected_leads: tuple[str, ...],
) -> list[EcgInput]:
    """Check what the caller passed and attach rate, leads and unit to it.

    Args:
        ecg: See the module docstring.
        sampling_rate: Rate of arrays that carry none. A record that does carry one must agree with it.
        lead_names: Names of arrays that carry none. A record that does carry them must agree.
        unit: Amplitude unit of arrays and mappings without a ``"unit"``.
        layout: Which axis comes first in arrays; ``None`` decides by the number of leads.
        expected_rate: Assumed, with one warning, for arrays without a rate.
        expected_leads: Assumed, with one warning, for arrays without names that have as many leads.

    Returns:
        One entry per record, or a single entry with a three-dimensional signal. Modified leads (MLII, MCL1, CM5 ...)
        have the name of the standard lead they stand for, unless that lead is present too.

    Raises:
        SignalError: for anything but a real numeric array of samples.
        AmbiguousLayoutError: if leads and samples can't be told apart.
        LeadError: if names are missing, repeated, or do not fit the array.
        SamplingRateError: if a rate is impossible, or the call and the record disagree.
        UnknownUnit: if the unit is not convertible to millivolts, or the call and the record disagree.
        ConfigurationError: if a mapping states its rate, leads or unit under another name.
    """
    if layout is not None and layout not in get_args(Layout):
        raise AmbiguousLayoutError(f"layout must be one of {', '.join(get_args(Layout))}", value=layout)
    defaults = _Defaults(
        sampling_rate=None if sampling_rate is None else checked_sampling_rate(sampling_rate),
        lead_names=None if lead_names is None else _names(lead_names),
        scale=_scale(unit),
        unit=unit,
        layout=layout,
        expected_rate=expected_rate,
        expected_leads=expected_leads,
    )
    if not isinstance(ecg, list | tuple):
        return [_standing_in(_parse_one(ecg, defaults, batched=True))]
    if not ecg:
        raise SignalError("an empty list holds no ECG", value=())
    if isinstance(ecg[0], list | tuple | int | float):
        # Nested Python lists (a row of an unformatted dataset): one array in disguise.
        return [_standing_in(_parse_one(_from_lists(ecg), defaults, batched=True))]
    return [_standing_in(_parse_one(item, defaults, batched=False)) for item in ecg]


def stack_inputs(
    inputs: Sequence[EcgInput], backend: ArrayBackend, report: ReportBuilder | None
) -> list[EcgStack]:
    """Group checked inputs by leads, rate, unit and length, and convert each group to one float32 array."""
    first = inputs[0]
    if first.signal.ndim == 3:
        assert first.window is not None
        whole = _scaled(backend.as_float32(first.signal), first.scale)
        positions = np.arange(len(whole))
        _report_assumptions(report, first, positions)
        return [EcgStack(whole, first.lead_names, first.sampling_rate, positions, first.window)]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position, item in enumerate(inputs):
        assert item.window is not None
        # Recordings of different lengths make one stack if the same part of them is used.
        place = replace(item.window, length=0)
        key = (item.lead_names, item.sampling_rate, item.scale, tuple(item.signal.shape), place)
        groups.setdefault(key, []).append(position)
        _report_assumptions(report, item, [position])
    stacks = []
    for (names, rate, scale, _, _), members in groups.items():
        signal = _scaled(backend.stack([inputs[position].signal for position in members]), scale)
        window = cast(InputWindow, inputs[members[0]].window)
        stacks.append(EcgStack(signal, names, rate, np.asarray(members), window))
    return stacks


def in_order(parts: Sequence[Array], stacks: Sequence[EcgStack], backend: ArrayBackend) -> Array:
    """Results of the stacks put back into the order of the caller's batch."""
    if len(parts) == 1:
        return parts[0]
    positions = np.concatenate([stack.positions for stack in stacks])
    order = backend.constant(np.argsort(positions))
    return backend.concatenate(parts)[order]


def select_backend(device: object | None) -> ArrayBackend:
    """Numpy for ``None``, otherwise torch on ``device`` (``"cpu"``, ``"cuda:0"``, ``torch.device`` ...)."""
    if device is None:
        return NumpyBackend()
    # Imported here because torch takes seconds to import and numpy users don't need it.
    from ecg_hf.processing.torch_backend import TorchBackend

    return TorchBackend(device)


def tensor_device(ecg: Any) -> object | None:
    """Device of the first torch tensor in what the caller passed; ``None`` without one."""
    items = ecg if isinstance(ecg, list | tuple) else (ecg,)
    for item in items:
        found = item
        if isinstance(item, Mapping):
            found = item.get("signal", item.get("array"))
        if is_torch_tensor(found):
            device: object = found.device
            return device
    return None


def _standing_in(item: EcgInput) -> EcgInput:
    """``item`` with modified leads under the names of the standard leads they resemble."""
    names = list(item.lead_names)
    assumptions = list(item.assumptions)
    for row, name in enumerate(item.lead_names):
        standard = MODIFIED_LEADS.get(name.upper())
        if standard is None or standard in names:
            continue
        names[row] = standard
        assumptions.append(("lead_substituted", f"{name} stands for {standard}"))
        logger.warning_once(
            f"Lead {name} is used as {standard}, which it only resembles: its electrodes are placed for monitoring."
        )
    if len(assumptions) == len(item.assumptions):
        return item
    return replace(item, lead_names=tuple(names), assumptions=tuple(assumptions))


def _parse_one(item: Any, defaults: _Defaults, *, batched: bool) -> EcgInput:
    if isinstance(item, EcgRecord):
        return _parse_record(item, defaults)
    if isinstance(item, Mapping):
        return _parse_mapping(item, defaults)
    return _parse_array(item, defaults, batched=batched)


def _parse_record(record: EcgRecord, defaults: _Defaults) -> EcgInput:
    if defaults.scale != 1.0:
        raise UnknownUnit(
            f"an EcgRecord is in mV, unit={defaults.unit!r} contradicts it", value=defaults.unit
        )
    _must_agree(record.sampling_rate, record.lead_names, defaults)
    return EcgInput(without_padding(record), record.lead_names, record.sampling_rate, 1.0)


def _parse_mapping(item: Mapping[str, Any], defaults: _Defaults) -> EcgInput:
    signal = item.get("signal") if item.get("signal") is not None else item.get("array")
    if signal is None:
        keys = ", ".join(sorted(str(key) for key in item))
        raise SignalError(f'a mapping needs a "signal" or "array", this one has: {keys}')
    check_keys(item)
    rate = item.get("sampling_rate")
    names = item.get("lead_names")
    rate = None if rate is None else checked_sampling_rate(rate)
    names = None if names is None else _names(names)
    _must_agree(rate, names, defaults)
    unit = item.get("unit")
    if unit is not None and defaults.scale not in (1.0, _scale(unit)):
        raise UnknownUnit(f"the record says {unit}, the call says unit={defaults.unit!r}", value=unit)
    own = _Defaults(
        sampling_rate=rate if rate is not None else defaults.sampling_rate,
        lead_names=names if names is not None else defaults.lead_names,
        scale=defaults.scale if unit is None else _scale(unit),
        unit=defaults.unit if unit is None else unit,
        layout=defaults.layout,
        expected_rate=defaults.expected_rate,
        expected_leads=defaults.expected_leads,
    )
    return _parse_array(signal, own, batched=False)


def _parse_array(value: Any, defaults: _Defaults, *, batched: bool) -> EcgInput:
    array = _as_real_array(value)
    assumptions: list[tuple[str, str]] = []
    names = defaults.lead_names
    if array.ndim == 1 and names is not None and len(names) == 1:
        array = array.reshape(1, -1)
    wanted_ndim = (2, 3) if batched else (2,)
    if array.ndim not in wanted_ndim:
        shapes = "(leads, samples)" + (" or (batch, leads, samples)" if batched else "")
        raise SignalError(
            f"expected an array {shapes}, got shape {tuple(array.shape)}", value=tuple(array.shape)
        )
    if 0 in array.shape:
        raise SignalError(f"signal has no samples: shape {tuple(array.shape)}", value=tuple(array.shape))
    if names is None:
        names = defaults.expected_leads
        assumptions.append(("lead_names_assumed", f"{len(names)} leads in the extractor's order"))
    array, transposed = _leads_first(array, len(names), defaults)
    if transposed:
        assumptions.append(("layout_transposed", "samples came first"))
    if array.shape[-2] != len(names):
        raise LeadError(_lead_count_message(array, names, defaults), value=int(array.shape[-2]))
    if defaults.lead_names is None:
        logger.warning_once(
            f"No lead_names were given for an array: assuming the extractor's order {' '.join(names)}. "
            "Leads in another order give wrong features without any error; pass lead_names."
        )
    rate = defaults.sampling_rate
    if rate is None:
        rate = defaults.expected_rate
        assumptions.append(("sampling_rate_assumed", f"{rate:g} Hz"))
        logger.warning_once(
            f"No sampling_rate was given for an array: assuming the extractor's {rate:g} Hz. "
            "A wrong rate gives wrong features without any error; pass sampling_rate."
        )
    if defaults.scale != 1.0:
        assumptions.append(("unit_converted", f"from {defaults.unit}"))
    return EcgInput(array, names, rate, defaults.scale, tuple(assumptions))


def _leads_first(array: Array, n_leads: int, defaults: _Defaults) -> tuple[Array, bool]:
    """The array with leads before samples, and whether it was transposed."""
    rows, columns = array.shape[-2:]
    layout = defaults.layout
    if layout is None and rows == columns == n_leads:
        raise AmbiguousLayoutError(
            f"{rows} x {columns}: leads and samples can't be told apart, "
            "pass layout='leads_first' or 'samples_first'",
            value=(rows, columns),
        )
    if layout == "samples_first" or (layout is None and rows != n_leads and columns == n_leads):
        return array.swapaxes(-1, -2), True
    return array, False


def _lead_count_message(array: Array, names: tuple[str, ...], defaults: _Defaults) -> str:
    shape = tuple(array.shape)
    if defaults.lead_names is None:
        return f"an array of shape {shape} does not have the extractor's {len(names)} leads: pass lead_names"
    return f"{len(names)} lead names for an array of shape {shape}"


def _as_real_array(value: Any) -> Array:
    """Numpy array or torch tensor of real numbers, not copied."""
    if isinstance(value, str | bytes | PathLike):
        raise SignalError("paths are not read here: pass ecg_hf.read_record(path), or use a pipeline")
    if is_torch_tensor(value):
        if value.is_complex() or value.dtype == value.new_empty(0).bool().dtype:
            raise SignalError(f"an ECG consists of real numbers, got {value.dtype}", value=str(value.dtype))
        return value.detach()
    if isinstance(value, list | tuple):
        return _from_lists(value)
    if value is None or not hasattr(value, "__array__"):
        raise SignalError(f"{type(value).__name__} is not an ECG: pass an EcgRecord, a mapping or an array")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise SignalError(f"an ECG consists of real numbers, got {array.dtype}", value=str(array.dtype))
    if isinstance(value, np.ma.MaskedArray):
        # np.asarray would drop the mask and expose the masked values.
        array = np.ma.filled(value.astype(np.float64), np.nan)
    return array


def _from_lists(value: Sequence[Any]) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise SignalError("nested lists of unequal lengths don't make an array of leads") from None
    if array.dtype.kind not in "fiu":
        raise SignalError(f"an ECG consists of real numbers, got {array.dtype}", value=str(array.dtype))
    return array


def _must_agree(rate: float | None, names: tuple[str, ...] | None, defaults: _Defaults) -> None:
    if rate is not None and defaults.sampling_rate is not None and rate != defaults.sampling_rate:
        raise SamplingRateError(
            f"the record says {rate:g} Hz, the call says sampling_rate={defaults.sampling_rate:g}", value=rate
        )
    if names is not None and defaults.lead_names is not None and names != defaults.lead_names:
        raise LeadError("the record's lead names differ from the lead_names of the call", value=names)


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str):
        raise LeadError(f"lead names must be a sequence of names, got the single string {names[:32]!r}")
    return normalize_lead_names(tuple(names))


def _scale(unit: Any) -> float:
    if not isinstance(unit, str):
        raise UnknownUnit(f"unit must be a name such as 'mV', got {type(unit).__name__}", value=unit)
    return millivolts_per_unit(unit)


def _scaled(signal: Array, scale: float) -> Array:
    return signal if scale == 1.0 else signal * scale


def _report_assumptions(report: ReportBuilder | None, item: EcgInput, positions: Any) -> None:
    if report is not None:
        for code, detail in item.assumptions:
            report.add(positions, code, detail)
