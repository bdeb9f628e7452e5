"""What a customer has depends on the rows alone: not on the order of events, nor on how often they come."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from connector.audit import Audit
from connector.dataverse import Create
from connector.identity import derived_id
from connector.rows import ledger
from connector.rows.choices import RedemptionStatus
from connector.rows.programs import read_program
from local.demo.journey import Slice, read_slice
from local.demo.shop import Shop, customer_of
from tests.office import Office

SEEDS = (1, 2)


def story(office: Office, purchases: Slice) -> Iterator[Callable[[], None]]:
    """Purchases, payments, corrections, cancellations and deletions, step by step."""
    shop = Shop(office.client)
    first = {basket.household: basket for basket in reversed(purchases.baskets)}
    yield partial(shop.open_accounts, first, first)
    for baskets in batched(purchases.baskets, 10, strict=False):
        yield partial(shop.issue, baskets)
        yield partial(shop.pay, baskets[:-2])
        yield partial(shop.correct, baskets[0])
        yield partial(shop.cancel, baskets[1])
        yield partial(shop.delete, baskets[2])
    yield partial(shop.cancel, purchases.baskets[5])


def ledgers(office: Office, purchases: Slice) -> dict[int, Any]:
    """For each household the state and the net points of each document.

    Without its place in the chain, and without the newest place ever seen: an invoice that was deleted before anybody
    looked was never seen.
    """
    found = {}
    for household in purchases.households:
        customer = customer_of(household)
        state = ledger.membership_of(customer, office.client.get(ledger.membership_path(customer))).state
        points: Counter[str] = Counter()
        path = f"loy_entries?$select={ledger.ENTRY}&$filter=_loy_membershipid_value eq {customer.membership_id}"
        for row in office.client.get(path):
            points[row["loy_cause"]] += row["loy_points"]
        found[household] = (
            replace(state, sequence=0, last_hash="", latest=None),
            {document: n for document, n in points.items() if n},
        )
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_event_three_times_in_random_order_gives_the_ledger_of_once_in_order(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    purchases = read_slice(6, 12)
    orderly, chaotic = (Office(_folder(tmp_path, name)) for name in ("orderly", "chaotic"))
    try:
        for step in story(orderly, purchases):
            step()
            orderly.work(orderly.events())
        expected = ledgers(orderly, purchases)
        assert {state.tier for state, _ in expected.values()} > {"BASE"}  # multipliers are at stake

        for step in story(chaotic, purchases):
            step()
        events = chaotic.events() * 3
        chance.shuffle(events)
        chaotic.work(events)
        assert ledgers(chaotic, purchases) == expected
        for office in (orderly, chaotic):
            report = Audit(office.client, read_program(office.client, "CJ"), office.now()).run()
            assert report.violations == []
            redeem_once(office, purchases, chance)
    finally:
        orderly.close()
        chaotic.close()


def redeem_once(office: Office, purchases: Slice, chance: random.Random) -> None:
    """A redemption whose event comes three times, between others, is one redemption."""
    wishes = []
    for household in purchases.households:
        customer = customer_of(household)
        wish = str(UUID(derived_id("wish", str(household))))
        wishes.append(wish)
        office.client.commit(
            [
                Create(
                    "loy_redemptions",
                    {
                        "loy_redemptionid": wish,
                        "loy_requestid": wish,
                        "loy_name": "Redeem 100",
                        "loy_points": 100,
                        f"loy_CustomerId_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})",
                    },
                )
            ]
        )
    before = {h: state.balance for h, (state, _) in ledgers(office, purchases).items()}
    events = office.events() * 3
    chance.shuffle(events)
    office.work(events)
    after = {h: state.balance for h, (state, _) in ledgers(office, purchases).items()}
    assert after == {household: balance - 100 for household, balance in before.items()}
    statuses = {office.client.get(f"loy_redemptions({wish})?$select=loy_status")["loy_status"] for wish in wishes}
    assert statuses == {RedemptionStatus.COMPLETED.value}


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
