"""What lies in this folder (`store_samples`) can be imported by every test below it."""

from __future__ import annotations

import os

from hypothesis import settings

# A developer's minute is for many tests, CI's for many examples of each.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", deadline=None)
settings.load_profile("thorough" if os.environ.get("CI") else "quick")
