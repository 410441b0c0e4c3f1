"""Settings of all tests."""

from hypothesis import settings

# A busy machine is no defect: no test fails for being slow.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
