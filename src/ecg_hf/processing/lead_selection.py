"""Which leads of a recording are used, and the messages about those that are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from transformers.utils import logging

from ecg_hf.errors import LeadError, NonFiniteSignal, SignalError
from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.gaps import MAX_AMPLITUDE, NanPolicy
from ecg_hf.processing.inputs import EcgStack
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.signal.leads import LIMB_LEADS

__all__ = ["LeadSelection"]

logger = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeadSelection:
    """The options that decide which leads are used.

    Attributes:
        lead_names: Leads of the output, in this order.
        derive_leads: Compute missing limb leads from two others.
        nan_policy: What happens to invalid samples; ``"raise"`` refuses all but leads that are NaN throughout.
        max_repaired_share: Largest share of a lead's samples that may be replaced.
    """

    lead_names: tuple[str, ...]
    derive_leads: bool
    nan_policy: NanPolicy
    max_repaired_share: float

    def split(
        self, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None
    ) -> Iterator[EcgStack]:
        """Split a stack by which leads hold no valid sample at all, and drop those leads.

        Because they are dropped before leads are arranged, an invalid limb lead can still be derived from two others.

        Args:
            stack: Records as they came in, in millivolts.
            backend: Array library in use.
            report: Where to note what was dropped.

        Returns:
            Stacks of the leads that take part in the output, directly or as a source of another.

        Raises:
            LeadError: if a record has none of these leads.
            SignalError: if all of them are invalid.
            NonFiniteSignal: if one is invalid for another reason than NaN and ``nan_policy`` is ``"raise"``.
        """
        low, high = backend.minimum(stack.signal), backend.maximum(stack.signal)
        # NaN fails every comparison, so this is true only where all samples of a lead are usable.
        if bool(((low >= -MAX_AMPLITUDE) & (high <= MAX_AMPLITUDE)).all()):
            yield self._relevant_leads(replace(stack, extremes=(low, high)), backend, report)
            return
        begin, end = stack.window.used
        invalid = ~(abs(stack.signal[..., begin:end]) <= MAX_AMPLITUDE)
        share = backend.to_numpy(invalid.sum(axis=-1)) / (end - begin)
        dead = share == 1.0
        if self.nan_policy == "raise":
            self._refuse_unless_nan(stack, dead, backend)
        else:
            beyond = (share > self.max_repaired_share) & ~dead
            self._report_beyond_repair(stack, share, beyond, report)
            dead |= beyond
        for pattern in np.unique(dead, axis=0):
            rows = np.flatnonzero((dead == pattern).all(axis=1))
            if pattern.all():
                what = "no valid sample in any lead"
                if (share[rows[0]] < 1.0).any():
                    what = f"more than {self.max_repaired_share:.0%} invalid samples in every lead"
                raise SignalError(
                    f"record {stack.positions[rows[0]]} of the batch has {what}; {self.needs()}",
                    value=int(stack.positions[rows[0]]),
                )
            part = _select(stack, rows, np.flatnonzero(~pattern), backend)
            yield self._relevant_leads(part, backend, report)

    def _relevant_leads(
        self, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None
    ) -> EcgStack:
        """Only the leads that take part in the output, directly or as a source of another."""
        relevant = [self._is_relevant(name, stack.lead_names) for name in stack.lead_names]
        if all(relevant):
            return stack
        if not any(relevant):
            raise self._none_needed(stack)
        dropped = [name for name, keep in zip(stack.lead_names, relevant, strict=True) if not keep]
        self._announce_unused(dropped, stack.lead_names)
        if report is not None:
            report.add(stack.positions, "leads_dropped", ", ".join(dropped))
        rows = np.arange(len(stack.positions))
        return _select(stack, rows, np.flatnonzero(relevant), backend)

    def arrange(
        self, signal: Array, stack: EcgStack, backend: ArrayBackend
    ) -> tuple[Array, npt.NDArray[np.bool_], tuple[str, ...]]:
        """Rows in the order of the output; which of them exist, and the names of those that are derived.

        Raises:
            LeadError: if none of them exists.
        """
        arranged, present, derived = backend.arrange(
            signal, stack.lead_names, self.lead_names, self.derive_leads
        )
        if not present.any():
            raise self._none_needed(stack)
        return arranged, present, derived

    def note_leads(
        self,
        stack: EcgStack,
        present: npt.NDArray[np.bool_],
        derived: Sequence[str],
        is_flat: npt.NDArray[np.bool_],
        report: ReportBuilder | None,
    ) -> None:
        """Note which leads of the output are missing (not ``present``), derived or flat."""
        if report is None:
            return
        for name, there in zip(self.lead_names, present, strict=True):
            if not there:
                report.add(stack.positions, "lead_missing", "zeros with lead_mask 0", name)
        for name in derived:
            report.add(stack.positions, "lead_derived", "exact combination of two limb leads", name)
        for index, name in enumerate(self.lead_names):
            if is_flat[:, index].any():
                report.add(stack.positions[is_flat[:, index]], "flat_lead", "no variation", name)

    def needs(self) -> str:
        """What a recording must have, for messages."""
        limb_leads = sum(name in LIMB_LEADS for name in self.lead_names)
        derivable = self.derive_leads and 0 < limb_leads < len(LIMB_LEADS)
        more = ", or two limb leads from which one of these follows" if derivable else ""
        return f"this model needs a signal in at least one of {', '.join(self.lead_names)}{more}"

    def _report_beyond_repair(
        self,
        stack: EcgStack,
        share: npt.NDArray[np.floating],
        beyond: npt.NDArray[np.bool_],
        report: ReportBuilder | None,
    ) -> None:
        if not beyond.any():
            return
        logger.warning_once(
            f"Leads of which more than {self.max_repaired_share:.0%} are invalid samples (NaN, infinite or absurd) "
            "count as missing; max_repaired_share sets the limit."
        )
        for record, lead in np.argwhere(beyond) if report is not None else ():
            detail = f"{share[record, lead]:.0%} of its samples are invalid, more than max_repaired_share"
            assert report is not None
            report.add([stack.positions[record]], "lead_beyond_repair", detail, stack.lead_names[lead])

    def _announce_unused(self, dropped: Sequence[str], available: Sequence[str]) -> None:
        """Log unused leads once: as a warning, or as info if they are redundant to the leads used."""
        limb_leads_used = sum(name in LIMB_LEADS and name not in dropped for name in available)
        lost = [name for name in dropped if name not in LIMB_LEADS or limb_leads_used < 2]
        if lost:
            logger.warning_once(
                f"Leads that this model does not take are not used: {', '.join(map(str, lost))} "
                f"(it takes {' '.join(self.lead_names)})."
            )
        redundant = [name for name in dropped if name not in lost]
        if redundant:
            logger.info_once(f"Not used, because they follow from leads that are: {', '.join(redundant)}.")

    def _refuse_unless_nan(self, stack: EcgStack, dead: npt.NDArray[np.bool_], backend: ArrayBackend) -> None:
        """Refuse needed leads without a valid sample; one that is NaN throughout counts as missing instead."""
        begin, end = stack.window.used
        used = stack.signal[..., begin:end]
        all_nan = backend.to_numpy((used != used).all(axis=-1))
        relevant = np.array([self._is_relevant(name, stack.lead_names) for name in stack.lead_names])
        wrong = np.argwhere(dead & ~all_nan & relevant)
        if len(wrong):
            record, lead = wrong[0]
            raise NonFiniteSignal(
                f"record {stack.positions[record]} of the batch has infinite or absurd samples",
                lead=stack.lead_names[lead],
            )

    def _is_relevant(self, name: str, available: Sequence[str]) -> bool:
        """Whether lead ``name`` of a record that has ``available`` is used, directly or to derive another."""
        if name in self.lead_names:
            return True
        wants_limb = any(lead in LIMB_LEADS and lead not in available for lead in self.lead_names)
        return self.derive_leads and name in LIMB_LEADS and wants_limb

    def _none_needed(self, stack: EcgStack) -> LeadError:
        """Error for records that have no lead the model can use."""
        return LeadError(
            f"record {stack.positions[0]} of the batch has only {', '.join(stack.lead_names)}; {self.needs()}",
            value=stack.lead_names,
        )


def _select(
    stack: EcgStack, rows: npt.NDArray[np.intp], leads: npt.NDArray[np.intp], backend: ArrayBackend
) -> EcgStack:
    """Some records and some leads of a stack."""
    signal = stack.signal
    if len(rows) < len(stack.positions):
        signal = signal[backend.constant(rows)]
    columns = backend.constant(leads)
    return replace(
        stack,
        signal=signal[:, columns],
        extremes=stack.extremes and (stack.extremes[0][:, columns], stack.extremes[1][:, columns]),
        lead_names=tuple(stack.lead_names[index] for index in leads),
        positions=stack.positions[rows],
    )
