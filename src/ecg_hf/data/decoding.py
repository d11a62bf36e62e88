"""Fast batched decoding of an ``Ecg`` column: stored integers to one float32 array in millivolts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetInfo
from datasets.table import InMemoryTable

from ecg_hf.data.feature import Ecg, is_ecg_column
from ecg_hf.data.storage import Layout, StoredColumn
from ecg_hf.data.stored_peaks import StoredPeaks
from ecg_hf.errors import ConfigurationError, EcgError, SamplingRateError
from ecg_hf.signal.leads import STANDARD_LEADS, arrange_leads, normalize_lead_names
from ecg_hf.signal.resampling import resample

__all__ = ["BatchDecoder", "DecodedBatch", "decode_batch"]

Indices = Sequence[int] | npt.NDArray[np.integer[Any]] | range | slice


@dataclass(frozen=True, slots=True, eq=False)
class DecodedBatch:
    """Some rows of a dataset, decoded.

    Attributes:
        signal: float32 ``(batch, leads, samples)`` in millivolts. Shorter records are followed by zeros, leads a
            record lacks are zero; NaN marks samples the recorder declared invalid.
        lead_mask: bool ``(batch, leads)``, False where a record lacks the lead (or all of it is invalid).
        lengths: int64 ``(batch,)``, samples of each record before padding.
        sampling_rate: Hertz, one for the batch.
        lead_names: Names of the lead axis.
        r_peaks: Known R peaks of each record, int64 samples of ``signal``, empty if none are stored; None if
            no row of the dataset has any.
    """

    signal: npt.NDArray[np.float32]
    lead_mask: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    sampling_rate: float
    lead_names: tuple[str, ...]
    r_peaks: list[npt.NDArray[np.int64]] | None = None

    @property
    def sample_mask(self) -> npt.NDArray[np.bool_]:
        """False on padding, ``(batch, samples)``."""
        return np.arange(self.signal.shape[2]) < self.lengths[:, None]

    @property
    def is_padded(self) -> bool:
        """Whether any record is shorter than the batch."""
        return bool((self.lengths != self.signal.shape[2]).any())


class BatchDecoder:
    """Reads batches of ECGs out of a dataset, as fast as memory allows.

    What differs between rows but is not samples (gains, rates, lead names, positions) is read once, here;
    a batch is then one cast per row from the memory-mapped file into the output. Indices are those of the
    dataset as given: ``select``, ``shuffle`` and ``filter`` are respected. Conversions follow the column's feature
    (``cast_column("ecg", Ecg(sampling_rate=250))``) unless given here.

    Cheap to send to data loader workers: it is pickled without the signals.

    Args:
        dataset: A dataset with an ``Ecg`` column, stored or cast.
        column: Name of the column.
        sampling_rate: Hertz of the output; ``None`` keeps the stored rate, which must then be the same throughout a
            batch.
        lead_names: Leads of the output in order; ``None`` keeps the stored order where all rows agree and gives
            the union, standard leads first, where they differ.
        derive_leads: Compute missing limb leads from two others where that is exact.

    Raises:
        ConfigurationError: if the dataset has no such column.

    Example:
        >>> decoder = BatchDecoder(dataset, lead_names=["I", "II", "V2"])
        >>> decoder([5, 3, 8]).signal.shape
        (3, 3, 1000)
    """

    def __init__(
        self,
        dataset: Dataset,
        column: str = "ecg",
        *,
        sampling_rate: float | None = None,
        lead_names: Sequence[str] | None = None,
        derive_leads: bool = True,
    ) -> None:
        if not is_ecg_column(dataset.features, column):
            raise ConfigurationError(
                f"the dataset has no ECG column named {column!r} (columns: {', '.join(dataset.column_names)})"
            )
        feature = dataset.features[column]
        if isinstance(feature, Ecg):
            sampling_rate = feature.sampling_rate if sampling_rate is None else sampling_rate
            lead_names = feature.lead_names if lead_names is None else lead_names
        self.dataset = dataset
        self.column = column
        self.sampling_rate = None if sampling_rate is None else float(sampling_rate)
        self.derive_leads = derive_leads
        self._open()
        self.lead_names = self._common_leads() if lead_names is None else normalize_lead_names(lead_names)
        self._texts: dict[str, Any] = {}

    def _open(self) -> None:
        try:
            self._stored = StoredColumn(self.dataset.data.table.column(self.column))
        except EcgError:
            if self.dataset._indices is None:
                raise
            # The invalid rows may be among those a filter left out, so copy the selected rows and check only them.
            chosen = self.dataset.data.table.take(self.dataset._indices.column(0))
            info = DatasetInfo(features=self.dataset.features)
            self.dataset = Dataset(InMemoryTable(chosen), info=info)
            self._stored = StoredColumn(chosen.column(self.column))
        indices = self.dataset._indices
        self._rows = None if indices is None else indices.column(0).to_numpy().astype(np.int64)
        self._peaks = StoredPeaks.of(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_stored", "_rows", "_peaks", "_texts")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._texts = {}
        self._open()

    def __len__(self) -> int:
        return len(self.dataset)

    def _common_leads(self) -> tuple[str, ...]:
        names = dict.fromkeys(layout.lead_names for layout in self._stored.layouts)
        if len(names) == 1:
            return next(iter(names))
        every = {name for leads in names for name in leads}
        standard = [name for name in STANDARD_LEADS if name in every]
        return (*standard, *sorted(every.difference(standard)))

    def physical_rows(self, indices: Indices | None) -> npt.NDArray[np.int64]:
        """Rows of the underlying table behind ``indices`` (all of them for ``None``).

        Raises:
            IndexError: if an index lies outside the dataset.
        """
        size = len(self)
        if indices is None or isinstance(indices, slice):
            logical = np.arange(size, dtype=np.int64)[indices if indices is not None else slice(None)]
        else:
            logical = np.asarray(indices, dtype=np.int64).reshape(-1)
            if logical.size and (int(logical.min()) < -size or int(logical.max()) >= size):
                raise IndexError(f"index out of range for a dataset of {size} rows")
            logical = np.where(logical < 0, logical + size, logical)
        return logical if self._rows is None else self._rows[logical]

    def __call__(self, indices: Indices | None = None) -> DecodedBatch:
        """Decode rows.

        Args:
            indices: Row numbers in the dataset, in the order wanted; ``None`` for all.

        Raises:
            SamplingRateError: if the rows have different rates and no target rate was set.
            IndexError: if an index lies outside the dataset.
        """
        rows = self.physical_rows(indices)
        if rows.size == 0:
            return self._empty()
        layout_ids = self._stored.layout_ids[rows]
        if bool((layout_ids == layout_ids[0]).all()):
            layout = self._stored.layouts[int(layout_ids[0])]
            batch = self._convert(layout, *self._stored.read(rows, layout))
        else:
            batch = self._decode_mixed(rows, layout_ids)
        if self._peaks is None:
            return batch
        rates = np.array([layout.sampling_rate for layout in self._stored.layouts])[layout_ids]
        return replace(batch, r_peaks=self._peaks.read(rows, batch.sampling_rate / rates))

    @property
    def has_one_rate(self) -> bool:
        """Whether any rows can be decoded into one array."""
        return self.sampling_rate is not None or len({lay.sampling_rate for lay in self._stored.layouts}) <= 1

    @property
    def has_one_length(self) -> bool:
        """Whether decoding all rows into one array pads none of them."""
        kinds = {(lay.shape[1], lay.sampling_rate) for lay in self._stored.layouts}
        return len({samples / rate if self.sampling_rate else samples for samples, rate in kinds}) <= 1

    def by_length(self, indices: Indices | None = None) -> list[tuple[npt.NDArray[np.int64], DecodedBatch]]:
        """Decode rows like a call, but in groups without padding, so that no work is spent on padding.

        Args:
            indices: Row numbers in the dataset; ``None`` for all.

        Returns:
            Places within ``indices`` (ascending) and the batch of the rows at these places. Every place is in one
            group.

        Raises:
            SamplingRateError: if the rows have different rates and no target rate was set.
            IndexError: if an index lies outside the dataset.
        """
        rows = self.physical_rows(indices)
        layout_ids = self._stored.layout_ids[rows]
        groups = []
        for places, batch in self._convert_groups(rows, layout_ids):
            if self._peaks is not None:
                rate = self._stored.layouts[int(layout_ids[places[0]])].sampling_rate
                ratios = np.full(len(places), batch.sampling_rate / rate)
                batch = replace(batch, r_peaks=self._peaks.read(rows[places], ratios))
            groups.append((places, batch))
        return groups

    def by_layout(self, indices: Indices | None = None) -> list[tuple[npt.NDArray[np.int64], DecodedBatch]]:
        """Decode rows of any rates, leads and lengths as they are stored, grouping rows that agree in all of them.

        Args:
            indices: Row numbers in the dataset; ``None`` for all.

        Returns:
            Places within ``indices`` (ascending) and the batch of the rows at these places, at their own rate and
            with their own leads. Every place is in one group.

        Raises:
            IndexError: if an index lies outside the dataset.
        """
        rows = self.physical_rows(indices)
        layout_ids = self._stored.layout_ids[rows]
        groups = []
        for key in np.unique(layout_ids):
            places = np.flatnonzero(layout_ids == key)
            layout = self._stored.layouts[int(key)]
            signal, lead_mask = self._stored.read(rows[places], layout)
            batch = DecodedBatch(
                signal,
                lead_mask,
                np.full(len(places), layout.shape[1], np.int64),
                layout.sampling_rate,
                layout.lead_names,
                None if self._peaks is None else self._peaks.read(rows[places], np.ones(len(places))),
            )
            groups.append((places, batch))
        return groups

    def _empty(self) -> DecodedBatch:
        layouts = self._stored.layouts
        rate = self.sampling_rate or (layouts[0].sampling_rate if layouts else 0.0)
        leads = len(self.lead_names)
        return DecodedBatch(
            signal=np.zeros((0, leads, 0), np.float32),
            lead_mask=np.zeros((0, leads), np.bool_),
            lengths=np.zeros(0, np.int64),
            sampling_rate=rate,
            lead_names=self.lead_names,
        )

    def _decode_mixed(self, rows: npt.NDArray[np.int64], layout_ids: npt.NDArray[np.int32]) -> DecodedBatch:
        """Rows of several layouts: decode each group at once, then pad into one array."""
        groups = self._convert_groups(rows, layout_ids)
        longest = max(batch.signal.shape[2] for _, batch in groups)
        signal = np.zeros((len(rows), len(self.lead_names), longest), np.float32)
        lead_mask = np.zeros((len(rows), len(self.lead_names)), np.bool_)
        lengths = np.zeros(len(rows), np.int64)
        for members, batch in groups:
            signal[members, :, : batch.signal.shape[2]] = batch.signal
            lead_mask[members] = batch.lead_mask
            lengths[members] = batch.lengths
        return DecodedBatch(signal, lead_mask, lengths, groups[0][1].sampling_rate, self.lead_names)

    def _convert_groups(
        self, rows: npt.NDArray[np.int64], layout_ids: npt.NDArray[np.int32]
    ) -> list[tuple[npt.NDArray[np.int64], DecodedBatch]]:
        """Places and batch of the rows of each layout, converted to what was asked for."""
        layouts = {int(i): self._stored.layouts[int(i)] for i in np.unique(layout_ids)}
        rates = sorted({layout.sampling_rate for layout in layouts.values()})
        if self.sampling_rate is None and len(rates) > 1:
            raise SamplingRateError(
                f"rows have sampling rates {', '.join(f'{r:g}' for r in rates)} Hz: choose one with sampling_rate=",
                value=rates,
            )
        groups = []
        for key, layout in layouts.items():
            members = np.flatnonzero(layout_ids == key)
            groups.append((members, self._convert(layout, *self._stored.read(rows[members], layout))))
        return groups

    def _convert(
        self, layout: Layout, signal: npt.NDArray[np.float32], lead_mask: npt.NDArray[np.bool_]
    ) -> DecodedBatch:
        """Reorder and resample a batch of one layout to what was asked for."""
        if self.lead_names != layout.lead_names:
            positions = [
                layout.lead_names.index(n) if n in layout.lead_names else -1 for n in self.lead_names
            ]
            if -1 not in positions:
                signal, lead_mask = signal[:, positions], lead_mask[:, positions]
            else:
                signal, lead_mask = self._arrange(layout, signal, lead_mask)
        rate = layout.sampling_rate
        if self.sampling_rate is not None and self.sampling_rate != rate:
            signal = resample(signal, rate, self.sampling_rate)
            rate = self.sampling_rate
        lengths = np.full(len(signal), signal.shape[2], np.int64)
        return DecodedBatch(signal, lead_mask, lengths, rate, self.lead_names)

    def _arrange(
        self, layout: Layout, signal: npt.NDArray[np.float32], lead_mask: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Leads by name, derived where possible; a derived lead is present if its sources are."""
        arranged = np.zeros((len(signal), len(self.lead_names), signal.shape[2]), np.float32)
        there = np.zeros((len(signal), len(self.lead_names)), np.bool_)
        # A lead that is invalid throughout must not be used to derive another, so group rows by their usable leads.
        patterns, group_of = np.unique(lead_mask, axis=0, return_inverse=True)
        for group, usable in enumerate(patterns):
            members = np.flatnonzero(group_of.reshape(-1) == group)
            names = tuple(n for n, ok in zip(layout.lead_names, usable, strict=True) if ok)
            if names:
                part, present, _ = arrange_leads(
                    signal[members][:, usable], names, self.lead_names, derive=self.derive_leads
                )
                arranged[members] = part
                there[members] = present
        return arranged, there

    def texts(self, indices: Indices | None = None, column: str = "report") -> list[str]:
        """Values of a text column at ``indices``, empty strings for nulls.

        Raises:
            ConfigurationError: if the dataset has no such column.
        """
        if column not in self._texts:
            if column not in self.dataset.column_names:
                raise ConfigurationError(f"the dataset has no column named {column!r}")
            self._texts[column] = self.dataset.data.table.column(column).combine_chunks()
        values = self._texts[column].take(_as_arrow(self.physical_rows(indices)))
        return [value or "" for value in values.to_pylist()]

    def reports(self, indices: Indices | None = None) -> list[str]:
        """Clinical texts of the rows at ``indices``."""
        return self.texts(indices, "report")


def _as_arrow(rows: npt.NDArray[np.int64]) -> Any:
    import pyarrow as pa

    return pa.array(rows, pa.int64())


def decode_batch(
    dataset: Dataset,
    indices: Indices | None = None,
    *,
    column: str = "ecg",
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    derive_leads: bool = True,
) -> DecodedBatch:
    """Decode rows of a dataset once; keep a :class:`BatchDecoder` to decode many batches.

    Args:
        dataset: A dataset with an ``Ecg`` column.
        indices: Row numbers in the order wanted; ``None`` for all.
        column: Name of the column.
        sampling_rate: Hertz of the output.
        lead_names: Leads of the output in order.
        derive_leads: Compute missing limb leads from two others where that is exact.
    """
    decoder = BatchDecoder(
        dataset, column, sampling_rate=sampling_rate, lead_names=lead_names, derive_leads=derive_leads
    )
    return decoder(indices)
