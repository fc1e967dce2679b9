"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples on every machine: a green run is green again. HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("explore", deadline=None)
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
