"""Hides numpy, which only the stand-in and ClickHouse's producer ask for: what chain.Chain starts has to do without."""

raise ImportError("hidden by tests/without_numpy/numpy.py")
