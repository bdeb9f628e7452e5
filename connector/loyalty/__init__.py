"""The pure core: what a change does to a customer's points.

No I/O, no clock, no random numbers: everything a decision needs is passed in, so that a decision can be repeated, replayed and
proved. Nothing here imports anything of ours from outside this package.
"""
