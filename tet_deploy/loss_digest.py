"""By what a network knows the log of its own training: the mean loss of each epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

KEY = "losses_digest"  # of the metadata


def loss_digest(losses: Iterable[float]) -> str:
    """A digest of all losses, to the last bit."""
    return hashlib.sha256(json.dumps([float(loss) for loss in losses]).encode()).hexdigest()[:16]
