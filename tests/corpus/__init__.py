"""Broken inputs of all kinds, each with what is said of it."""

from __future__ import annotations

from .lists import LISTS, TABLES
from .patches import FILES, LABELS
from .shards import SHARDS
from .sources import PATHS, STREAMS, TARS

ALL = (*FILES, *LABELS, *TABLES, *LISTS, *PATHS, *TARS, *STREAMS, *SHARDS)
