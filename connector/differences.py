"""Looks at many changes without committing any: which of them would do something now?"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import batched

from connector.bus import Change
from connector.loyalty.decisions import Outcome
from connector.processing import Preview, Processor

# Threads share requests: this many looks at a time are a few requests.
_AT_ONCE = 24
_CHUNK = 240


def differences(processor: Processor, changes: Iterable[Change]) -> Iterator[Preview]:
    """Every change that would not come to nothing, in the order given. Reads a chunk ahead, never more.

    Each is looked at against the ledger as it is: what an earlier one would post is not in it yet.
    """
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as pool:
        for chunk in batched(changes, _CHUNK, strict=False):
            for previews in pool.map(processor.preview, chunk):
                yield from (preview for preview in previews if preview.decision.outcome is not Outcome.NOTHING)
