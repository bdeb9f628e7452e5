"""Hostile input at every entrance: `python -m benchmarks.fuzz --inputs 100000 [--seed N]`.

Each input is read, or refused by the error that its entrance has for that, in short time; anything else ends the run with the
seed and the input. What is mutated are true messages: bytes, pieces, types, depth, sizes.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from connector.bus import Change, ChangeError, Mandate, Subject
from connector.counter import RedemptionRequest, VoidRequest
from connector.dataverse import Create, Update
from connector.dataverse.context import ContextError
from connector.identity import Customer
from connector.loyalty.codes import parse_code
from connector.settings import SettingsError, read_settings
from tests.office import Office

SLOWEST = 5.0  # seconds for one input, on a busy machine; a regular expression gone wild takes minutes
NOBODY = "5f0c1b52-0000-4000-8000-000000000001"

type Door = tuple[Callable[[bytes], object], type[Exception], Sequence[bytes]]
"""What reads an input, the error of its refusals, and true inputs."""


class Fault(Exception):
    """An input that was neither read nor refused by name."""


def doors(office: Office, events: Sequence[bytes]) -> Mapping[str, Door]:
    change = Change.about(Subject.INVOICE, NOBODY, f"account:{NOBODY}", cause="c").model_dump_json().encode()
    order = Mandate(as_of=date(2026, 7, 15), spare_days=30, notices=False)
    review = (
        Change.about(Subject.REVIEW, NOBODY, f"account:{NOBODY}", cause="c", mandate=order).model_dump_json().encode()
    )
    redemption = {"customer": f"account:{NOBODY}", "points": 5, "description": "x", "channel": "till"}
    settings = b"\n".join(
        (
            b"DATAVERSE_URL=https://contoso.crm4.dynamics.com",
            b"DATAVERSE_TENANT_ID=contoso.onmicrosoft.com",
            b"DATAVERSE_CLIENT_ID=" + NOBODY.encode(),
            b"DATAVERSE_CLIENT_SECRET=s",
            b"ServiceBusConnection=Endpoint=sb://c.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=k=",
        )
    )
    return {
        "event": (office.listener.read, ContextError, events),
        "change": (Change.parse, ChangeError, [change, review, *events[:1]]),
        "redemption": (RedemptionRequest.model_validate_json, ValidationError, [json.dumps(redemption).encode()]),
        "void": (VoidRequest.model_validate_json, ValidationError, [b'{"reason": "brought back"}']),
        "customer": (lambda text: Customer.parse(_text(text)), ValueError, [f"account:{NOBODY}".encode()]),
        "code": (lambda text: parse_code(_text(text)), ValueError, [b"K7QF-M2XA-9TCD"]),
        "settings": (_settings, SettingsError, [settings]),
    }


def _text(given: bytes) -> str:
    return given.decode("utf-8", "replace")


def _settings(given: bytes) -> object:
    return read_settings(dict(line.partition("=")[::2] for line in _text(given).splitlines()))


def fuzz(entrances: Mapping[str, Door], inputs: int, seed: int) -> Counter[tuple[str, str]]:
    """How many inputs were read and how many refused, by entrance; they take turns. Fault names the first that was neither."""
    chance, found = random.Random(seed), Counter[tuple[str, str]]()
    names = list(entrances)
    for number in range(inputs):
        name = names[number % len(names)]
        read, refusal, bodies = entrances[name]
        body = mutated(chance, chance.choice(bodies))
        began = time.monotonic()
        try:
            read(body)
            outcome = "read"
        except refusal as error:
            outcome = "refused"
            if name in ("event", "change") and not (len(str(error)) <= 600 and str(error).isprintable()):
                raise Fault(f"seed {seed}, input {number}, {name}: the refusal quotes the input") from error
        except Exception as error:
            raise Fault(f"seed {seed}, input {number}, {name}: {type(error).__name__}: {body[:500]!r}") from error
        if time.monotonic() - began > SLOWEST:
            raise Fault(f"seed {seed}, input {number}, {name}: took {time.monotonic() - began:.1f} s: {body[:500]!r}")
        found[name, outcome] += 1
    return found


def mutated(chance: random.Random, body: bytes) -> bytes:
    """A body with a few things wrong: bytes, pieces, types, sizes."""
    text = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text) + 1)
        match chance.randrange(7):
            case 0:
                text[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del text[place : place + chance.randint(1, 200)]
            case 2:
                text[place:place] = text[place : place + chance.randint(1, 200)]
            case 3:
                text[place:place] = chance.choice(
                    [b"null", b"{}", b"[]", b"-1", b"1e999", b'"', b"\x00", b"\xff\xfe", b"\\ud800"]
                )
            case 4:
                for old in (b'"Value":', b'"Id":', b'"key":', b'"value":', b'"Attributes":'):
                    if chance.random() < 0.3:
                        text = bytearray(bytes(text).replace(old, old + chance.choice([b"[", b"{", b"1,", b'"x"']), 1))
            case 5:
                text[place:place] = b"[" * chance.choice([10, 5_000])
            case _:
                text[place:place] = b"9" * chance.choice([20, 5_000])
    return bytes(text)


def same_ids(event: bytes) -> bytes:
    """The event with ids and times that are the same in every run, so that a seed repeats what it did."""
    places: dict[bytes, bytes] = {}

    def numbered(found: re.Match[bytes]) -> bytes:
        return places.setdefault(found[0], b"5f0c1b52-0000-4000-8000-%012d" % len(places))

    event = re.sub(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", numbered, event)
    event = re.sub(rb"Date\(\d+", b"Date(1780000000000", event)
    return re.sub(rb"INV-\d+-\w+|unq\w+", b"X", event)


def true_events(office: Office) -> list[bytes]:
    """Events that Dataverse posts about an invoice that is made and paid, and about a redemption."""
    account, invoice, wish = str(uuid4()), str(uuid4()), str(uuid4())
    line = {"isproductoverridden": True, "ispriceoverridden": True, "productdescription": "thing", "quantity": 1}
    row = {"invoiceid": invoice, "name": "I", "invoice_details": [line | {"priceperunit": Decimal(10)}]}
    asked = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", "loy_points": 200}
    office.client.commit([Create("accounts", {"accountid": account, "name": "Adatum"})])
    office.client.commit([Create("invoices", row | {"customerid_account@odata.bind": f"/accounts({account})"})])
    office.client.commit([Update(f"invoices({invoice})", {"statecode": 2, "statuscode": 100001})])
    bind = {"loy_CustomerId_account@odata.bind": f"/accounts({account})"}
    office.client.commit([Create("loy_redemptions", asked | bind)])
    return [same_ids(event) for event in office.events()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20_260_715)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        office = Office(Path(home))
        try:
            found = fuzz(doors(office, true_events(office)), arguments.inputs, arguments.seed)
        except Fault as fault:
            print(fault, file=sys.stderr)
            return 1
        finally:
            office.close()
    for (name, outcome), count in sorted(found.items()):
        print(f"{name}: {count} {outcome}")
    print(
        f"{found.total()} inputs, seed {arguments.seed}: all read or refused by name, {time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
