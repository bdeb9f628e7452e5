"""The proof under faults: a company at work while everything around the connector fails, then the laws, checked by a model.

`world` is virtual time, in which one seed is one history; `bus` and `office` put the real connector on the real broker model
and the real Dataverse simulator in it; `faults` rage, `scenario` is the company, `model` and `laws` judge what is left.
"""
