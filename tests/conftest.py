"""Settings of all tests: hypothesis explores anew at a desk and repeats itself in continuous integration."""

import os

from hypothesis import settings

settings.register_profile("desk", deadline=None)  # a slow machine is no failure
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "desk")
