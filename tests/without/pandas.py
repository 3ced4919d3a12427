"""Hides pandas, which is installed because chdb asks for it: pyarrow loads it where it is found, 0.3 s a process."""

raise ImportError("hidden by tests/without/pandas.py")
