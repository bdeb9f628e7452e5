"""What the broker refuses, each with the AMQP condition that clients map to their typed exceptions."""

from __future__ import annotations


class ServiceBusError(Exception):
    """A refusal: `condition` for AMQP, `status` for answers of $cbs and $management."""

    condition = "amqp:internal-error"
    status = 500


class NotFound(ServiceBusError):
    condition, status = "amqp:not-found", 404


class NotAllowed(ServiceBusError):
    condition, status = "amqp:not-allowed", 400


class NotImplementedByBroker(ServiceBusError):
    condition, status = "amqp:not-implemented", 501


class InvalidField(ServiceBusError):
    condition, status = "amqp:invalid-field", 400


class ArgumentError(ServiceBusError):
    condition, status = "com.microsoft:argument-error", 400


class Unauthorized(ServiceBusError):
    condition, status = "amqp:unauthorized-access", 401


class AcceptTimeout(ServiceBusError):
    condition, status = "com.microsoft:timeout", 408


class ServerBusy(ServiceBusError):
    condition, status = "com.microsoft:server-busy", 503


class MessageNotFound(ServiceBusError):
    condition, status = "com.microsoft:message-not-found", 404


class MessageLockLost(ServiceBusError):
    condition, status = "com.microsoft:message-lock-lost", 410


class SessionLockLost(ServiceBusError):
    condition, status = "com.microsoft:session-lock-lost", 410


class SessionCannotBeLocked(ServiceBusError):
    condition, status = "com.microsoft:session-cannot-be-locked", 410


class EntityAlreadyExists(ServiceBusError):
    condition, status = "com.microsoft:entity-already-exists", 409


class SizeExceeded(ServiceBusError):
    condition, status = "amqp:link:message-size-exceeded", 403
