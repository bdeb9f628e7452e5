"""Which ratings a run has to look at: membership and account are read again together, for both say what a rating is."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from itertools import batched

from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import IDS, any_of
from connector.loyalty.program import Program
from connector.mass.deciding import Member
from connector.rows import customers
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership

_WRITTEN = "loy_ratingoverride,loy_writtenrating"


def looked_at(
    client: DataverseClient, program: Program, members: Iterable[Member], on: date
) -> dict[str, tuple[Membership, CustomerRow]]:
    """By membership: the rows of accounts whose tier asks for another rating than we wrote last; of nobody else."""
    changing = {member.customer.id: member for member in members if _asks(program, member, on)}
    gets = []
    for some in batched(changing.values(), IDS, strict=False):
        ours, theirs = [member.id for member in some], [member.customer.id for member in some]
        gets.append(Get(f"loy_memberships?$select={_WRITTEN}&$filter={any_of('loy_membershipid', ours)}"))
        gets.append(Get(f"accounts?$select=accountratingcode&$filter={any_of('accountid', theirs)}"))
    rows = [row for found in client.read(*gets) for row in found]
    memberships = {row["loy_membershipid"]: row for row in rows if "loy_membershipid" in row}
    accounts = {row["accountid"]: row for row in rows if "accountid" in row}
    answer = {}
    for customer_id, member in changing.items():
        row, account = memberships.get(member.id), accounts.get(customer_id)
        if row and account:
            membership = replace(
                member.membership,
                rating_override=bool(row["loy_ratingoverride"]),
                written_rating=row["loy_writtenrating"],
                etag=row["@odata.etag"],
            )
            answer[member.id] = (membership, customers.customer_row(member.customer, account, "customer"))
    return answer


def _asks(program: Program, member: Member, on: date) -> bool:
    membership = member.membership
    return (
        program.writes_rating
        and member.alive
        and member.customer.table == "account"
        and not membership.rating_override
        and customers.asks_for_another(program.tier(member.state.tier, on), membership.written_rating)
    )
