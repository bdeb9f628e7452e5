"""AMQP 1.0 as a server speaks it: types, performatives, message sections, connections. Knows nothing of queues.

Own code rather than python-qpid-proton's engine: proton does not expose a transfer's message-format (which marks a batch),
closes connections over delivery-ids that the azure-servicebus SDK repeats, answers framing errors with an error the
SDK cannot read, and waits with select(). Source of the rules: OASIS AMQP 1.0, parts 1 to 3 and 5.
"""
