"""The experiments behind the book's tables: settings in, one JSON record out for each of them.

They use the library and are no part of it: they run in a checkout, ``python -m experiments``. What
they share (`runner`, `records`, `provenance`, `spot_check`, `cluster`) is here; each has a folder,
with its settings (``__init__.py``), its data and methods (``methods.py``), and what is read from
its records (``tables.py``).
"""
