"""Properties are derandomized: every run checks the same examples. HYPOTHESIS_PROFILE=hunt looks for new ones at length."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("suite", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile(
    "hunt", deadline=None, print_blob=True, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
