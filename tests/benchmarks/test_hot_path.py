"""What a change costs, in counts: more than the committed baseline is a regression."""

import pytest

from benchmarks.hot_path import quick
from benchmarks.hot_path.lab import lab
from benchmarks.hot_path.stream import Kind, record


def test_a_change_costs_no_more_than_before() -> None:
    with lab() as found:
        counts = quick.measure(found)
    print(counts)
    assert quick.compare(counts, quick.baseline()) == []


def test_a_worse_count_is_told_and_a_better_one_is_not() -> None:
    before = {"requests": 2.0, "bytes.sent": 1000.0}
    assert quick.compare({"requests": 1.5, "bytes.sent": 1015.0}, before) == []
    assert quick.compare({"requests": 2.1, "bytes.sent": 1030.0}, before) == [
        "bytes.sent: 1030, was 1000",
        "requests: 2.1, was 2",
    ]
    assert quick.compare({"requests": 2.0}, before) == ["bytes.sent: not in both; accept a new baseline"]


@pytest.mark.parametrize("customers", [1, 100, 10_000])
def test_a_recording_is_the_same_each_time_and_has_everything_in_it(customers: int) -> None:
    recording = record(9, customers=customers, history=10, changes=400)
    assert recording == record(9, customers=customers, history=10, changes=400)
    assert len(recording.events) == 400
    assert len(set(recording.events)) < 400  # some come twice
    assert {row.kind for row in recording.rows} == set(Kind)
    assert all(row.past < 10 for row in recording.rows)
