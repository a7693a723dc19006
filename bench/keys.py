"""Content addresses and derived seeds: sha256 of canonical JSON, so neither dictionary order nor paths matter."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """The sha256, in hex, of the canonical JSON of `value` (plain types only; a float is written as its shortest
    repr)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def derived_seed(*parts: Any) -> int:
    """A 63-bit seed that depends on `parts` alone."""
    return int(digest(list(parts))[:16], 16) >> 1
