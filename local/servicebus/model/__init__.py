"""The rules of queues, sessions and locks: plain classes, no I/O, time from an injected clock.

Source: Microsoft's Service Bus documentation (sessions, locks and settlement, dead-letter queues, deferral, expiration,
duplicate detection, sequencing, auto-forwarding, topic filters).
"""
