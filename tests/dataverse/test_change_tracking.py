"""Change tracking: full read, delta links, deletions, pages, expiry."""

import datetime

from tests.dataverse.conftest import Dataverse

TRACK = "odata.track-changes"


def test_a_delta_holds_what_changed_and_what_was_deleted(dataverse: Dataverse) -> None:
    rows = [dataverse.ok("POST", "accounts", {"name": str(n)}) for n in range(3)]
    answer = dataverse.send("GET", "accounts?$select=name", Prefer=TRACK)
    assert answer.headers["Preference-Applied"] == TRACK
    link = answer.json()["@odata.deltaLink"]
    assert dataverse.ok("GET", link)["value"] == []
    dataverse.ok("PATCH", f"accounts({rows[0]})", {"description": "x"})
    dataverse.ok("DELETE", f"accounts({rows[1]})")
    fresh = dataverse.ok("POST", "accounts", {"name": "new"})
    brief = dataverse.ok("POST", "accounts", {"name": "brief"})
    dataverse.ok("DELETE", f"accounts({brief})")
    delta = dataverse.ok("GET", link)
    assert delta["@odata.context"].endswith("$metadata#accounts(name,accountid)/$delta")
    changed = [row["accountid"] for row in delta["value"] if "accountid" in row]
    gone = [row for row in delta["value"] if "accountid" not in row]
    assert changed == [rows[0], fresh]
    assert [(row["id"], row["reason"]) for row in gone] == [(rows[1], "deleted"), (brief, "deleted")]
    assert delta["value"][-1] == gone[-1]
    assert dataverse.ok("GET", delta["@odata.deltaLink"])["value"] == []
    token = link.partition("$deltatoken=")[2]
    assert dataverse.send("GET", f"accounts/$count?$deltatoken={token}").content.decode("utf-8-sig") == "4"


def test_pages_of_full_read_and_delta(dataverse: Dataverse) -> None:
    for number in range(5):
        dataverse.ok("POST", "accounts", {"name": str(number)})
    url, seen, changed_between = "accounts?$select=name", set(), ""
    while True:
        page = dataverse.send("GET", url, Prefer=f"{TRACK},odata.maxpagesize=2").json()
        seen |= {row["accountid"] for row in page["value"]}
        if not changed_between:  # a row already read changes while the rest is being read
            changed_between = page["value"][0]["accountid"]
            dataverse.ok("PATCH", f"accounts({changed_between})", {"name": "changed"})
        if "@odata.deltaLink" in page:
            break
        url = page["@odata.nextLink"]
    assert len(seen) == 5
    delta = dataverse.ok("GET", page["@odata.deltaLink"])
    assert [row["accountid"] for row in delta["value"]] == [changed_between]
    for row in seen:
        dataverse.ok("PATCH", f"accounts({row})", {"name": "again"})
    url, found = delta["@odata.deltaLink"], []
    while True:
        page = dataverse.send("GET", url, Prefer="odata.maxpagesize=2").json()
        found += [row["accountid"] for row in page["value"]]
        if "@odata.deltaLink" in page:
            break
        url = page["@odata.nextLink"]
    assert sorted(found) == sorted(seen)


def test_what_tracking_refuses(dataverse: Dataverse) -> None:
    message = dataverse.fails(400, "0x80060888", "GET", "accounts?$filter=name eq 'a'", Prefer=TRACK)
    assert message == 'The "${filter}" query parameter isn\'t supported when Change Tracking is enabled.'
    dataverse.fails(400, "0x80072491", "GET", "tasks", Prefer=TRACK)
    link = dataverse.ok("GET", "accounts?$select=name", Prefer=TRACK)["@odata.deltaLink"]
    dataverse.now += datetime.timedelta(days=8)
    dataverse.fails(400, "0x80044352", "GET", link)
    dataverse.fails(400, "0x80040203", "GET", "accounts?$deltatoken=rubbish")
    dataverse.fails(400, "0x80040203", "GET", "accounts?$deltatoken=-1!03/09/2026 09:30:00")


def test_tokens_live_as_long_as_the_organization_says(dataverse: Dataverse) -> None:
    dataverse.ok("PATCH", f"organizations({dataverse.env.organization_id})", {"expirechangetrackingindays": 2})
    link = dataverse.ok("GET", "accounts?$select=name", Prefer=TRACK)["@odata.deltaLink"]
    dataverse.now += datetime.timedelta(hours=47)
    fresh = dataverse.ok("GET", link)["@odata.deltaLink"]
    dataverse.now += datetime.timedelta(hours=2)
    dataverse.fails(400, "0x80044352", "GET", link)
    dataverse.fails(400, "0x80044352", "GET", link.replace("accounts?", "accounts/$count?"))
    assert dataverse.ok("GET", fresh)["value"] == []
