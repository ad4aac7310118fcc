"""Luck by hashing: the same key draws the same number in every process."""

from __future__ import annotations

import math
from hashlib import blake2b
from statistics import NormalDist

_STANDARD = NormalDist()


def uniform(*key: object) -> float:
    """Draw a number strictly between 0 and 1.

    Examples
    --------
    >>> uniform("seed", 0) == uniform("seed", 0)
    True
    """
    digest = blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    # 52 bits and a half fit a float exactly, so neither 0 nor 1 can come out.
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52


def gauss(*key: object) -> float:
    """Draw a standard normal number."""
    return _STANDARD.inv_cdf(uniform(*key))


def mixed(fixed: float, fresh: float, share: float) -> float:
    """Mix two standard normal numbers into a uniform one: a Gaussian copula.

    `share` is the part of the variance that `fresh` brings. Two draws with the same `fixed` are
    correlated, and each by itself is uniform.
    """
    normal = math.sqrt(1 - share) * fixed + math.sqrt(share) * fresh
    return 0.5 * math.erfc(-normal / math.sqrt(2))


def logistic(logits: float) -> float:
    """Turn logits into a probability."""
    return 1 / (1 + math.exp(-logits))


def fingerprint(*parts: object) -> str:
    """Name some texts by their content."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(str(part).encode())
        digest.update(b"\x1f")
    return digest.hexdigest()
