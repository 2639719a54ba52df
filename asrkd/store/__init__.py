"""The store `asrkd/v1`: soft targets in sharded Parquet."""

from asrkd.store.identity import Identity
from asrkd.store.reader import Store

__all__ = ["Identity", "Store"]
