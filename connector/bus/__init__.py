"""Messages: the change contract and the senders."""

from connector.bus.change import Change, ChangeError, Mandate, Subject
from connector.bus.sender import ChangeSender, QueueSender

__all__ = ["Change", "ChangeError", "ChangeSender", "Mandate", "QueueSender", "Subject"]
