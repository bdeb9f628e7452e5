"""A local Azure Service Bus: an AMQP 1.0 broker for laptops and tests.

amqp/ speaks the protocol, model/ knows the rules of queues, gateway/ translates between them, broker.py runs them.
"""
