"""Beat times: coverage of the recording, and premature beats inside even the shortest one."""

from __future__ import annotations

import pytest

from ecg_hf.signal.synthetic.findings import plan_records
from ecg_hf.signal.synthetic.morphologies import make_hearts
from ecg_hf.signal.synthetic.rhythms import BeatKind, draw_pulse, place_beats


@pytest.mark.parametrize("duration_s", [5.0, 10.0])
def test_beats_cover_the_recording_and_coded_premature_beats_lie_in_it(duration_s: float) -> None:
    plan = plan_records(0, range(1500))
    pulse = draw_pulse(plan)
    beats = place_beats(plan, pulse, make_hearts(plan, pulse.rate).qtc, 0, duration_s)
    assert (beats.times[:, 0] < -1.0).all()
    assert (beats.times[:, -1] > duration_s + 0.6).all()
    visible = (beats.times > 0.1) & (beats.times < duration_s - 0.1)
    for code, kind in (("PVC", BeatKind.VENTRICULAR_PREMATURE), ("PAC", BeatKind.ATRIAL_PREMATURE)):
        coded = plan.has(code)
        assert ((beats.kinds == kind) & visible).any(axis=1)[coded].all()
        assert not (beats.kinds[~coded] == kind).any()


def test_flutter_conducts_whole_waves() -> None:
    plan = plan_records(0, range(600))
    pulse = draw_pulse(plan)
    beats = place_beats(plan, pulse, make_hearts(plan, pulse.rate).qtc, 0, 10.0)
    flutter = plan.has("AFLT")
    waves = beats.rr[flutter] / pulse.cycle[flutter, None]
    assert flutter.sum() > 10
    assert abs(waves - waves.round()).max() < 1e-9
    assert set(waves.round().astype(int).ravel()) == {2, 3, 4}
