"""Reliability: what stands between a call and a provider that fails, is slow, or has enough to do.

Every piece is a pure decision over a clock and a random generator that are passed in; `guard` puts them
around one provider.
"""

from dspex.reliability.breaker import Breaker, BreakerSettings, Transition, outcome_of
from dspex.reliability.deadline import Deadline, attempt_timeout_s, remaining_s, within
from dspex.reliability.degrade import Degradation, Level, LevelChange, Load, Work, machine_load, own_load
from dspex.reliability.guard import Attempt, Guard
from dspex.reliability.guards import Guards, Reliability
from dspex.reliability.hedging import HedgeBudget
from dspex.reliability.limits import AdaptiveLimit, BackoffWindow, Bulkhead, queue_size
from dspex.reliability.overflow import is_overflow
from dspex.reliability.retry import Backoff, GiveUp, Retry, RetryBudget, RetryPolicy
from dspex.reliability.single_flight import SingleFlight

__all__ = [
    "AdaptiveLimit",
    "Attempt",
    "Backoff",
    "BackoffWindow",
    "Breaker",
    "BreakerSettings",
    "Bulkhead",
    "Deadline",
    "Degradation",
    "GiveUp",
    "Guard",
    "Guards",
    "HedgeBudget",
    "Level",
    "LevelChange",
    "Load",
    "Reliability",
    "Retry",
    "RetryBudget",
    "RetryPolicy",
    "SingleFlight",
    "Transition",
    "Work",
    "attempt_timeout_s",
    "is_overflow",
    "machine_load",
    "outcome_of",
    "own_load",
    "queue_size",
    "remaining_s",
    "within",
]
