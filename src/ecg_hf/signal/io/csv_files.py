"""Tables of samples as text: a row per sample; leads, units and time from the header."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import MetadataMissing, SignalError, UnsupportedFormat
from ecg_hf.signal.io.arrays import digital_from_array
from ecg_hf.signal.io.channels import Channels, choose_channels, stated_unit
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.time_columns import (
    TimeColumn,
    is_counter,
    is_index_name,
    is_ramp,
    is_time_name,
    seconds_of,
    stated_rate,
    time_unit,
)
from ecg_hf.signal.leads import STANDARD_LEADS, is_generic_name, is_known_lead, normalize_lead_name
from ecg_hf.signal.record import Note
from ecg_hf.signal.units import is_dimensionless, is_voltage, millivolts_per_unit

__all__ = ["read_csv", "text_lines"]

_BLOCK_ROWS = 1 << 14
# Tried before the comma, which may be a decimal comma.
_MARKS = ("\t", ";", ",")
_BRACKETS = re.compile(r"(.*?)[\s_]*[(\[]([^()\[\]]*)[)\]]\s*")
_APPENDED_UNIT = re.compile(r"(.+?)[\s_]+([mun\u00b5\u03bc]v|(?:milli|micro|nano)volts?)", re.I)
_NOT_UNITS = {"aug", "augmented", "einthoven", "goldberger", "wilson"}


class _Table(NamedTuple):
    """A text file taken apart.

    Attributes:
        names: Name of each column without its unit; None if no row of names comes first.
        units: Unit of each column, None where none is stated.
        first: Number of lines before the first sample.
        split: Cells of a line.
        has_decimal_comma: Whether numbers are written ``0,5``.
    """

    names: list[str] | None
    units: list[str | None]
    first: int
    split: Callable[[str], list[str]]
    has_decimal_comma: bool


def read_csv(
    lines: Sequence[str], options: ReadOptions, layout: str | None, record_id: str | None
) -> DigitalRecord:
    """Read the lines of a delimited text file (comma, semicolon, tab or blanks; decimal point or comma).

    A first row of names assigns columns to leads, units are in the names or in a second row, and a time column gives
    the sampling rate. The caller may add to these but not contradict them. Index columns and columns that are not
    leads are left out. An empty cell or ``nan`` is a missing sample.

    Raises:
        MetadataMissing: if neither the file nor the caller states rate, leads or unit.
        UnsupportedFormat: if it is not a table of numbers, or its header consists of numbers.
        SamplingRateError: if a time column is uneven, or contradicts the caller's rate.
        LeadError: if the caller's names contradict the file's.
    """
    table = _take_apart(lines)
    if table.names is None:
        return _without_names(lines, table, options, layout, record_id)

    names, units = table.names, table.units
    by_name = [is_time_name(name) and not _is_standard(name) for name in names]
    needed = [
        i for i, name in enumerate(names) if by_name[i] or is_index_name(name) or _may_be_lead(name, options)
    ]
    sniffed = [i for i in range(len(names)) if i not in needed]
    columns, clocks = _columns(lines, table, needed, sniffed, [i for i, timed in enumerate(by_name) if timed])

    times, left_out, signals = [], [], []
    for i, name in enumerate(names):
        values = columns.get(i)
        if by_name[i] and values is not None:
            scale = 1.0 if i in clocks else time_unit(units[i], name)
            times.append(TimeColumn(name, values, scale))
        elif values is not None and is_index_name(name) and is_counter(values):
            left_out.append(name or f"column {i + 1}")
        elif values is not None and not is_known_lead(name) and is_ramp(values):
            if is_counter(values):
                left_out.append(name)
            else:
                times.append(TimeColumn(name, values, time_unit(units[i])))
        else:
            signals.append(i)
    rate, notes = stated_rate(times, options.sampling_rate)
    left_out += [column.name for column in times]
    channels = _channels(names, units, signals, options)
    chosen = [signals[row] for row in channels.rows]
    unread = [names[i] for i in chosen if i not in columns]
    if unread:
        raise UnsupportedFormat(f"column {unread[0]!r} holds something that is not a number", value=unread[0])
    samples, unit = _in_one_unit([columns[i] for i in chosen], [units[i] for i in chosen], options.unit)
    notes += channels.notes
    if left_out:
        notes += (Note("leads_dropped", f"time or index column left out: {', '.join(left_out)}"),)
    return digital_from_array(
        samples,
        sampling_rate=rate,
        lead_names=channels.names,
        unit=unit,
        layout="leads_first",
        record_id=record_id,
        notes=notes,
    )


def text_lines(content: bytes) -> list[str]:
    """Lines of a text file in UTF-8, UTF-16 or Latin-1.

    Raises:
        UnsupportedFormat: if it is not text.
        SignalError: if it is empty.
    """
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        # Western recorders write the micro sign in a Windows code page.
        text = content.decode("latin-1")
        if is_wide or any(ord(mark) < 32 and mark not in "\t\r\n" for mark in text[:4096]):
            raise UnsupportedFormat("file is not text") from None
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise SignalError("file has no samples")
    return lines


def _cleaned(cell: str) -> str:
    return cell.strip().strip("\"'").strip()


def _take_apart(lines: Sequence[str]) -> _Table:
    """Delimiter, names, units and where the samples begin."""
    places = [at for at, line in enumerate(lines[:256]) if line.strip()]
    remarks = sum(1 for _ in itertools.takewhile(lambda at: lines[at].startswith("#"), places))
    # The last comment may be the row of names, as numpy.savetxt writes it; other comments are ignored.
    places = places[max(0, remarks - 1) :]
    head = [lines[at].lstrip("# ") if lines[at].startswith("#") else lines[at] for at in places[:3]]
    last = head[-1]
    if remarks and _marks(head[0]) != _marks(last):
        places, head = places[1:], head[1:]
    mark = next((mark for mark in _MARKS if mark in head[0] and mark in last), None)
    blanks = mark is None and len(last.split()) > 1 and len(last.split()) == len(head[0].split())

    def split(line: str) -> list[str]:
        if mark is not None and '"' in line:
            return _quoted_cells(line, mark)
        return line.split(None if blanks else mark) if mark or blanks else [line]

    below = lines[places[0] + 1 :]
    if mark == ",":
        # "0,5","0,7": spreadsheets put numbers with decimal commas into quotes.
        has_comma = any("," in cell for line in below if '"' in line for cell in split(line))
    else:
        has_comma = any("," in line for line in below)
    rows = [[_cleaned(cell) for cell in split(line)] for line in head]
    first = rows[0]
    if all(_is_value(cell, has_comma) for cell in first):
        _refuse_column_numbers(rows, has_comma)
        return _Table(None, [None] * len(first), places[0], split, has_comma)
    named = [_name_and_unit(cell) for cell in first]
    names, units = [name for name, _ in named], [unit for _, unit in named]
    start = 1
    if (
        len(rows) > 1
        and len(rows[1]) == len(first)
        and not any(_is_value(c, has_comma) for c in rows[1] if c)
    ):
        below = [cell.strip("()[] ") for cell in rows[1]]
        if any(is_voltage(cell) or is_dimensionless(cell) for cell in below if cell) or time_unit(*below):
            units = [cell or unit for cell, unit in zip(below, units, strict=True)]
            start = 2
    if len(places) <= start:
        raise SignalError("file has column names but no samples")
    if len(rows) > start and not any(_is_value(cell, has_comma) for cell in rows[start] if cell):
        # Lines of text, perhaps on a person: nothing of them is repeated in an error.
        raise UnsupportedFormat("file is not a table of numbers")
    return _Table(names, units, places[start], split, has_comma)


def _quoted_cells(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
    except csv.Error:
        raise UnsupportedFormat("file is not a table of numbers") from None


def _marks(line: str) -> tuple[str, int]:
    """The delimiter of the cells of a line, and how often it occurs."""
    return next(((mark, line.count(mark)) for mark in _MARKS if mark in line), (" ", len(line.split())))


def _is_value(cell: str, has_comma: bool) -> bool:
    return not cell or seconds_of(cell.replace(",", ".") if has_comma else cell) is not None


def _refuse_column_numbers(rows: Sequence[list[str]], has_comma: bool) -> None:
    """Refuse a first row that numbers the columns, which would be read as a sample.

    Raises:
        UnsupportedFormat: if the first row is one.
    """
    first = rows[0]
    body = first[1:] if not first[0] else first
    numbers = [cell.isdigit() and int(cell) for cell in body]
    counts = numbers in (list(range(len(body))), list(range(1, len(body) + 1)))
    # A single 0 or 1 may well be a sample, unless the others are written with decimals.
    mark = "," if has_comma else "."
    differs = len(rows) > 1 and all(mark in cell for row in rows[1:] for cell in row[-len(body) :])
    if (counts and (len(body) > 1 or differs)) or (len(rows) > 1 and not first[0] and rows[1][0]):
        raise UnsupportedFormat(
            "the first row numbers the columns and is not a sample: write the leads' names there, or leave it out"
        )


def _name_and_unit(cell: str) -> tuple[str, str | None]:
    """``II (mV)`` and ``II_mV`` as name and unit; brackets that explain (``aVR (aug)``) are part of the name."""
    match = _BRACKETS.fullmatch(cell)
    if match:
        name, inside = match[1].strip(), match[2].strip()
        if inside.lower() not in _NOT_UNITS and not _is_standard(inside):
            return name, inside
        return cell, None
    match = _APPENDED_UNIT.fullmatch(cell)
    return (match[1].strip(), match[2]) if match else (cell, None)


def _is_standard(name: str) -> bool:
    return normalize_lead_name(name) in STANDARD_LEADS


def _may_be_lead(name: str, options: ReadOptions) -> bool:
    return options.lead_names is not None or options.leads is not None or is_known_lead(name)


def _columns(
    lines: Sequence[str], table: _Table, needed: Sequence[int], sniffed: Sequence[int], timed: Sequence[int]
) -> tuple[dict[int, npt.NDArray[np.float64]], set[int]]:
    """Values of columns, and those of them that are clock times.

    Args:
        lines: All lines.
        table: Their structure.
        needed: Columns that must be numbers.
        sniffed: Columns that are skipped if they are not.
        timed: Columns that may hold clock times.

    Raises:
        UnsupportedFormat: if a row has another number of cells, or a needed cell is not a number.
    """
    width, split, has_comma = len(table.units), table.split, table.has_decimal_comma
    wanted = dict.fromkeys([*needed, *sniffed])
    blocks: dict[int, list[npt.NDArray[np.float64]]] = {column: [] for column in wanted}
    clocks: set[int] = set()
    for start in range(table.first, len(lines), _BLOCK_ROWS):
        rows = []
        numbers = []
        for number, line in enumerate(lines[start : start + _BLOCK_ROWS], start + 1):
            if not line.strip():
                continue
            cells = split(line)
            if len(cells) != width:
                raise UnsupportedFormat(f"row {number} has {len(cells)} cells, the first {width}")
            rows.append(cells)
            numbers.append(number)
        for column in list(blocks):
            values = np.empty(len(rows))
            for at, cells in enumerate(rows):
                cell = cells[column]
                try:
                    values[at] = float(cell)
                    continue
                except ValueError:
                    found = _value(_cleaned(cell), has_comma, column in timed)
                if found is None and column not in sniffed:
                    raise UnsupportedFormat(f"row {numbers[at]} holds something that is not a number")
                if found is None:
                    del blocks[column]
                    break
                values[at], is_clock = found
                if is_clock:
                    clocks.add(column)
            else:
                blocks[column].append(values)
    return {column: np.concatenate(parts) for column, parts in blocks.items()}, clocks


def _value(cell: str, has_comma: bool, is_timed: bool) -> tuple[float, bool] | None:
    if not cell:
        return math.nan, False
    found = seconds_of(cell.replace(",", ".") if has_comma else cell)
    return found if found is None or is_timed or not found[1] else None


def _channels(
    names: Sequence[str], units: Sequence[str | None], signals: Sequence[int], options: ReadOptions
) -> Channels:
    """The columns among ``signals`` to read; ``rows`` are places in ``signals``."""
    places = list(range(len(signals)))
    notes: tuple[Note, ...] = ()
    if options.lead_names is None and options.leads is None:
        known = [at for at in places if is_known_lead(names[signals[at]])]
        if not known:
            # Any other text may be a person's name, if this is no table at all.
            shown = [repr(names[i]) if is_generic_name(names[i]) else f"column {i + 1}" for i in signals[:8]]
            listed = ", ".join(shown) or "none"
            raise MetadataMissing(
                f"the columns' names ({listed}) are not leads; pass lead_names", value="lead_names"
            )
        notes = tuple(
            Note(
                "signal_left_out",
                "the column's name is not a lead",
                names[signals[at]] or f"column {signals[at] + 1}",
            )
            for at in places
            if at not in known
        )
        places = known
    found = choose_channels(
        [names[signals[at]] or None for at in places],
        [units[signals[at]] for at in places],
        lead_names=options.lead_names,
        leads=options.leads,
        unit=options.unit,
    )
    return Channels(tuple(places[row] for row in found.rows), found.names, (*notes, *found.notes))


def _in_one_unit(
    columns: Sequence[npt.NDArray[np.float64]], written: Sequence[str | None], given: str | None
) -> tuple[npt.NDArray[np.float64], str | None]:
    """``(leads, samples)`` and their unit: millivolts where columns differ, None where one states none."""
    units = [stated_unit(unit, given) for unit in written]
    if None in units or len(set(units)) == 1:
        return np.stack(columns), None if None in units else units[0]
    scales = [millivolts_per_unit(unit) for unit in units if unit is not None]
    return np.stack([column * scale for column, scale in zip(columns, scales, strict=True)]), "mV"


def _without_names(
    lines: Sequence[str], table: _Table, options: ReadOptions, layout: str | None, record_id: str | None
) -> DigitalRecord:
    """A table of nothing but numbers: a first column that rises in equal steps is time or an index."""
    count = len(table.units)
    columns, clocks = _columns(lines, table, range(count), (), (0,))
    kept = list(range(count))
    rate = options.sampling_rate
    notes: tuple[Note, ...] = ()
    first = columns[0]
    is_spare = options.lead_names is None or len(options.lead_names) != count
    if layout != "leads_first" and count > 1 and is_spare and (0 in clocks or is_ramp(first)):
        time = () if is_counter(first) else (TimeColumn("1", first, 1.0 if clocks else None),)
        rate, notes = stated_rate(time, options.sampling_rate)
        notes += (Note("leads_dropped", "time or index column left out: the first"),)
        kept = kept[1:]
    elif clocks:
        raise UnsupportedFormat(f"row {table.first + 1} holds something that is not a number")
    record = digital_from_array(
        np.stack([columns[i] for i in kept], axis=1),
        sampling_rate=rate,
        lead_names=options.lead_names,
        unit=options.unit,
        layout=layout,
        record_id=record_id,
        notes=notes,
    )
    return record if options.leads is None else record.select_leads(options.leads)
