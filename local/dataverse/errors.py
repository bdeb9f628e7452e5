"""Dataverse's errors: what a client sees as status, `error.code` and `error.message`."""

from typing import Any


class Fault(Exception):
    """A documented refusal. `status` is the HTTP status, `code` Dataverse's hexadecimal code."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.details = details or {}  # extra annotations of the error object, given when the caller asked for them


def no_row(table: str, row_id: str) -> Fault:
    return Fault(404, "0x80040217", f"{table} With Id = {row_id} Does Not Exist")


def no_row_for_key(table: str) -> Fault:
    return Fault(404, "0x80060891", f"A record with the specified key values does not exist in {table} entity")


def no_resource(segment: str) -> Fault:
    return Fault(404, "0x8006088a", f"Resource not found for the segment '{segment}'.")


def no_route(uri: str) -> Fault:
    return Fault(404, "", f"No HTTP resource was found that matches the request URI '{uri}'.")


def no_property(name: str, table: str) -> Fault:
    return Fault(
        400, "0x80060888", f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'."
    )


def bad_query(message: str) -> Fault:
    return Fault(400, "0x80060888", message)


def bad_payload(set_name: str, message: str) -> Fault:
    return Fault(
        400,
        "0x80048d19",
        f"Error identified in Payload provided by the user for Entity :'{set_name}', Error: {message}",
    )


def undeclared(set_name: str, name: str, table: str) -> Fault:
    return bad_payload(
        set_name,
        f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table}'. "
        "Make sure to only use property names that are defined by the type.",
    )


def bad_request(message: str, code: str = "0x80048d19") -> Fault:
    return Fault(400, code, message)


def invalid_argument(message: str) -> Fault:
    return Fault(400, "0x80040203", message)


def request_too_long() -> Fault:
    return Fault(413, "0x8004418a", "The request is too long.")


def wrong_method(method: str) -> Fault:
    return Fault(405, "0x8006088b", f"The requested resource does not support http method '{method}'.")


def row_exists() -> Fault:
    return Fault(412, "0x80060891", "A record with matching key values already exists.")


def duplicate_id() -> Fault:
    return Fault(412, "0x80040237", "Cannot insert duplicate key.")


def duplicate_key(key: str, columns: str) -> Fault:
    return Fault(
        412,
        "0x80060892",
        f"Entity Key {key} violated. A record with the same value for {columns} already exists. "
        "A duplicate record cannot be created. Select one or more unique values and try again.",
    )


def version_mismatch() -> Fault:
    return Fault(
        412, "0x80060882", "The version of the existing record doesn't match the RowVersion property provided."
    )


def too_long(column: str, table: str, length: int) -> Fault:
    return Fault(
        400,
        "0x80044331",
        f"A validation error occurred. The length of the '{column}' attribute of the '{table}' entity exceeded the "
        f"maximum allowed length of '{length}'.",
    )


def out_of_range(column: str, minimum: object, maximum: object) -> Fault:
    return Fault(
        400,
        "0x80044330",
        f"A validation error occurred. The value of '{column}' is outside the valid range of {minimum} to {maximum}.",
    )


def bad_option(column: str, value: object, table: str) -> Fault:
    return Fault(
        400,
        "0x8004431a",
        f"A validation error occurred. The value {value} of '{column}' on record of type '{table}' is outside the "
        "valid range of its options.",
    )


def required(column: str, table: str) -> Fault:
    return Fault(400, "0x80040200", f"Required field '{column}' of entity '{table}' is missing.")


def wrong_state(status: object, state: object, table: str) -> Fault:
    return Fault(400, "0x80048408", f"{status} is not a valid status code for state code {state} on {table}.")


def read_only(table: str, row_id: str, reason: str) -> Fault:
    return Fault(
        400, "0x8004022e", f"The {table} with id {row_id} cannot be updated because it is read-only: {reason}."
    )


def missing_privilege(user_id: str, privilege: str, privilege_id: str, otc: int, table: str) -> Fault:
    return Fault(
        403,
        "0x80040220",
        f"Principal user (Id={user_id}, type=8) is missing {privilege} privilege (Id={privilege_id}) on OTC={otc} for "
        f"entity '{table}'. context.Caller={user_id}",
    )


def missing_access(user_id: str, right: str, table: str, row_id: str) -> Fault:
    return Fault(
        403,
        "0x80048306",
        f"Principal with id {user_id} does not have {right} right(s) for record with id {row_id} of entity {table}",
    )
