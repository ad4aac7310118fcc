"""Metrics: how right a prediction is, in [0, 1].

Each takes ``(example, prediction, trace=None)``, as DSPy's do, and GEPA's five arguments, for which it says in words
what is wrong. Ready-made ones compare every label, or with `.on` the named ones:

>>> import dspy
>>> example = dspy.Example(message="Where is my parcel?", label="delivery", urgent=False).with_inputs(
...     "message"
... )
>>> prediction = dspy.Prediction(label="billing", urgent=False)
>>> exact_match(example, prediction), exact_match.on("urgent")(example, prediction)
(False, True)
>>> print(exact_match(example, prediction, feedback=True).feedback)
Wrong.
label: expected 'delivery', got 'billing'
urgent: right
"""

from types import MappingProxyType
from typing import TYPE_CHECKING

from dspex.native.metrics.batch import accuracy, pass_at_k, score_all
from dspex.native.metrics.combine import all_of, any_answer, any_of, not_, threshold, weighted
from dspex.native.metrics.judge import judge
from dspex.native.metrics.listing import edit_similarity, list_f1, set_f1
from dspex.native.metrics.numeric import within
from dspex.native.metrics.protocol import FieldMetric, Metric, as_gepa, metric
from dspex.native.metrics.structured import Difference, differences, json_match
from dspex.native.metrics.text import contains, exact_match, matches, normalize, token_f1

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "NAMED",
    "Difference",
    "FieldMetric",
    "Metric",
    "accuracy",
    "all_of",
    "any_answer",
    "any_of",
    "as_gepa",
    "contains",
    "differences",
    "edit_similarity",
    "exact_match",
    "json_match",
    "judge",
    "list_f1",
    "matches",
    "metric",
    "normalize",
    "not_",
    "pass_at_k",
    "score_all",
    "set_f1",
    "threshold",
    "token_f1",
    "weighted",
    "within",
]

NAMED: "Mapping[str, FieldMetric]" = MappingProxyType(
    {
        each.__name__: each
        for each in (exact_match, token_f1, contains, set_f1, list_f1, edit_similarity, json_match)
    }
)
"""The ready-made metrics by name, as the command line and the magics know them."""
