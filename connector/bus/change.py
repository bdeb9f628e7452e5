"""The contract of the queue `loyalty-changes`: a hint that something of one customer must be looked at."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from connector.dataverse.odata import printable
from connector.identity import Customer, derived_id

_GUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


class Subject(StrEnum):
    """What a change is about; the table that holds it is `TABLES[subject]`. A customer's is in the customer's key."""

    INVOICE = "invoice"
    REDEMPTION = "redemption"
    ADJUSTMENT = "adjustment"
    REVIEW = "review"
    CUSTOMER = "customer"


# The application property of a dead letter that was sent again: how often it was.
ROUND = "LoyaltyRound"

TABLES = {
    Subject.INVOICE: "invoice",
    Subject.REDEMPTION: "loy_redemption",
    Subject.ADJUSTMENT: "loy_adjustment",
    Subject.REVIEW: "loy_membership",
}


class ChangeError(ValueError):
    """A message that is no change; the text names the field."""


def _customer_key(text: str) -> str:
    return str(Customer.parse(text))


class Mandate(BaseModel):
    """What a mass run leaves to a customer's session to do as it was ordered: see `Order`. Unless it `expires`, no points go.

    A hint like any other: whoever decides takes no day that has not come yet from it. Bounds are those of the run's columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: date = Field(ge=date(1753, 1, 1))
    spare_days: int = Field(default=0, ge=0, le=3650)
    expires: bool = True
    notices: bool = True
    template: str = Field(default="", max_length=100)


class Change(BaseModel):
    """`id` names this hint (and its log row); `row` is the id of the invoice, redemption, adjustment, membership or
    customer.

    `customer` is None when the event did not tell whose invoice it is; `resumed` says that a person sent it again;
    `check` asks only what it would do now; a review has the `mandate` of the run that sent it, and cancels no points without
    one: only runs know whom to leave alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=_GUID)
    subject: Subject
    row: str = Field(pattern=_GUID)
    customer: Annotated[str, AfterValidator(_customer_key)] | None = None
    correlation_id: str = Field(default="", max_length=36)
    cause: str = Field(default="", max_length=100)
    resumed: bool = False
    check: bool = False
    mandate: Mandate | None = None

    @classmethod
    def about(
        cls,
        subject: Subject,
        row: str,
        customer: str | None,
        *,
        cause: str,
        correlation_id: str = "",
        mandate: Mandate | None = None,
    ) -> Self:
        """A change whose id follows from its cause: the same event heard twice is the same change."""
        change_id = derived_id("change", subject, row, customer or "", cause)
        return cls(
            id=change_id,
            subject=subject,
            row=row,
            customer=customer,
            correlation_id=correlation_id,
            cause=cause[:100],
            mandate=mandate,
        )

    @classmethod
    def parse(cls, body: bytes | str) -> Self:
        """ChangeError names the field that is wrong."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            # An unknown field's name is the sender's own text.
            field = ".".join(str(part) for part in fault["loc"])[:100] or "message"
            raise ChangeError(printable(f"{field}: {fault['msg']}")) from None

    @property
    def session(self) -> str:
        """One customer, one session; an invoice of nobody has a session of its own."""
        return self.customer or f"{self.subject}:{self.row}"

    @property
    def table(self) -> str:
        return TABLES.get(self.subject) or (self.customer or "").partition(":")[0]

    def forwarded(self, customer: str) -> "Change":
        """The same hint for another customer."""
        return Change.about(
            self.subject,
            self.row,
            customer,
            cause=f"forwarded {self.id}",
            correlation_id=self.correlation_id,
            mandate=self.mandate,
        )
