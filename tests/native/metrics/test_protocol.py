import inspect
import pickle
import subprocess
import sys

import cloudpickle
import dspy
import pytest
from dspy.utils.callback import BaseCallback

from dspex import sandbox
from dspex.errors import DataError, UnknownNameError
from dspex.native import metrics
from dspex.native.metrics import as_gepa, exact_match, metric, token_f1, within

EXAMPLE = dspy.Example(question="?", label="bug", note="x").with_inputs("question")
PREDICTION = dspy.Prediction(label="bug", note="y")
GEPA_CALL = (None, "predict", [])


@metric
def label_only(example, prediction):
    """Whether the label is right."""
    return example.label == prediction.label


def plain(example, prediction):
    return 0.25


# ── the two ways to call ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("each", [*metrics.NAMED.values(), within(1, field="label"), label_only], ids=repr)
def test_every_form_of_the_call(each):
    """Two or three arguments give a number, GEPA's five or `feedback` an object with score and feedback."""
    assert isinstance(each(EXAMPLE, PREDICTION), (bool, float))
    assert each(EXAMPLE, PREDICTION, []) == each(EXAMPLE, PREDICTION)
    for asked in (
        each(EXAMPLE, PREDICTION, *GEPA_CALL),
        each(EXAMPLE, PREDICTION, trace=None, pred_name=None, pred_trace=None),
        each(EXAMPLE, PREDICTION, feedback=True),
    ):
        assert isinstance(asked, dspy.Prediction)
        assert type(asked.score) is float
        assert asked.score == each(EXAMPLE, PREDICTION)
        assert asked.feedback
    inspect.signature(each).bind(None, None, None, None, None)  # what GEPA checks


@pytest.mark.parametrize("each", [exact_match, token_f1, within(1, field="answer")])
def test_metrics_follow_dspys_protocol(each):
    """DSPy calls a metric with a trace as its third argument."""
    example = dspy.Example(question="?", answer="1").with_inputs("question")
    assert each(example, dspy.Prediction(answer="1"), []) == 1


def test_feedback_says_field_by_field():
    """Which field is right, which is not, and which is not there."""
    found = exact_match(EXAMPLE, dspy.Prediction(label="Bug"), *GEPA_CALL)
    assert found.score == 0.0
    assert found.feedback == "Wrong.\nlabel: right\nnote: expected 'x', but the prediction has no such field"


def test_feedback_is_not_endless():
    """A long value is shown by its beginning."""
    example = dspy.Example(question="?", answer="x" * 5_000).with_inputs("question")
    assert len(exact_match(example, dspy.Prediction(answer="y"), feedback=True).feedback) < 300


# ── restricted to labels ────────────────────────────────────────────────────────────────────────


def test_on_restricts_to_labels():
    """Only the named labels are compared, and the name says so."""
    assert exact_match(EXAMPLE, PREDICTION) is False
    assert exact_match.on("label")(EXAMPLE, PREDICTION) is True
    assert token_f1.on("label", "note")(EXAMPLE, PREDICTION) == 0.5
    assert exact_match.on("note").on("label").__qualname__ == "exact_match.on(label)"
    assert exact_match.fields is None


def test_on_needs_names_that_are_there():
    """No name, and one that the example lacks, are errors of the definition."""
    with pytest.raises(DataError, match="by their names"):
        exact_match.on()
    with pytest.raises(UnknownNameError, match="did you mean 'label'"):
        exact_match.on("lable")(EXAMPLE, PREDICTION)


def test_on_can_compare_what_is_an_input():
    """A named field may be an input: to repeat it may be the task."""
    assert exact_match.on("question")(EXAMPLE, dspy.Prediction(question="?")) is True


# ── functions of one's own ──────────────────────────────────────────────────────────────────────


def test_a_decorated_function_keeps_its_name_and_words():
    """Name, docstring and module are the function's."""
    assert label_only.__name__ == label_only.__qualname__ == "label_only"
    assert label_only.__doc__ == "Whether the label is right."
    assert label_only.__module__ == __name__
    assert repr(label_only) == "<metric label_only>"


@pytest.mark.parametrize(
    ("value", "score", "feedback"),
    [
        (True, 1.0, "Right.\nexpected label='bug', note='x'; got label='bug', note='y'"),
        (0.25, 0.25, "Partly right: 0.25 of 1.\nexpected label='bug', note='x'; got label='bug', note='y'"),
        ((0.5, "nearly"), 0.5, "nearly"),
        (dspy.Prediction(score=0.5, feedback="nearly"), 0.5, "nearly"),
    ],
)
def test_what_a_function_may_return(value, score, feedback):
    """A number, a bool, a pair, or a prediction; without feedback, both sides are shown."""
    made = as_gepa(lambda example, prediction: value)
    assert made(EXAMPLE, PREDICTION) == score
    found = made(EXAMPLE, PREDICTION, *GEPA_CALL)
    assert (found.score, found.feedback) == (score, feedback)


def test_an_example_that_knows_no_inputs_is_shown_whole():
    """Feedback does not fail where nobody said which fields are inputs."""
    found = as_gepa(plain)(dspy.Example(a=1), dspy.Prediction(b=2), feedback=True)
    assert found.feedback == "Partly right: 0.25 of 1.\nexpected a=1; got b=2"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda example, prediction: (1, "2"), "2"),
        (lambda example, prediction, trace: (1, str(trace)), "run"),
        (lambda example, prediction, trace=None, pred_name="?": (1, pred_name), "predict"),
        (lambda gold, pred, trace, pred_name, pred_trace: (1, pred_trace), "step"),
        (lambda gold, pred, trace, name, step, program_trace=None: (1, str(program_trace)), "None"),
        (lambda *everything: (1, str(len(everything))), "5"),
    ],
)
def test_functions_get_as_much_as_they_take(function, expected):
    """Two to five arguments, and any number; the call with two works for all of them."""
    made = as_gepa(function)
    assert made(EXAMPLE, PREDICTION, "run", "predict", "step").feedback == expected
    assert made(EXAMPLE, PREDICTION) == 1


@pytest.mark.parametrize(
    "function",
    [lambda: 1, lambda example: 1, lambda a, b, c, d, e, f: 1, lambda a, b, *, strict: 1],
)
def test_functions_that_cannot_be_called_so_are_refused(function):
    """Before anything runs, with what a metric takes."""
    with pytest.raises(DataError, match=r"a metric takes \(example, prediction\)"):
        as_gepa(function)


def test_as_gepa_leaves_a_metric_and_a_function_alone():
    """A metric is its own answer, and a function stays as it was."""
    assert as_gepa(exact_match) is exact_match
    assert as_gepa(plain).__name__ == plain.__qualname__ == "plain"
    with pytest.raises(DataError, match="a metric must be callable, got 'em'"):
        as_gepa("em")


def test_a_task_of_the_sandbox_is_a_metric():
    """A bound method is taken as what it takes beside self."""
    task = sandbox.task("triage")
    example = task.train[0]
    assert as_gepa(task.metric)(example, dspy.Prediction(label=example.label), *GEPA_CALL).score == 1.0


# ── between processes ───────────────────────────────────────────────────────────────────────────

MADE = [
    *metrics.NAMED.values(),
    exact_match.on("label"),
    within(1, relative=0.1, field="label"),
    metrics.matches("b", field="label"),
    metrics.weighted({exact_match: 1, token_f1: 2}),
    metrics.all_of(exact_match, token_f1),
    metrics.not_(exact_match),
    metrics.threshold(token_f1, 0.5),
    metrics.any_answer(token_f1),
]


@pytest.mark.parametrize("each", MADE, ids=repr)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_metrics_survive_pickling(each, pickler):
    """What arrives in another process has the same name and scores the same."""
    copy = pickle.loads(pickler.dumps(each))  # noqa: S301  # our own bytes
    assert copy.__name__ == each.__name__
    assert copy(EXAMPLE, PREDICTION) == each(EXAMPLE, PREDICTION)


@pytest.mark.process
@pytest.mark.parametrize("how", ["by_pickle", "by_cloudpickle"])
def test_decorated_functions_survive_pickling(how, tmp_path):
    """One of a module, by its name there; one of a notebook, with its code."""
    (tmp_path / "mine.py").write_text(
        "from dspex.native.metrics import metric\n"
        "@metric\ndef brief(example, prediction):\n    return len(prediction['answer']) < 5\n"
    )
    write = (
        "import sys, pickle, cloudpickle\n"
        "from dspex.native.metrics import metric\n"
        "from mine import brief\n"
        "@metric\ndef own(example, prediction):\n    return len(prediction['answer']) < 5\n"
        "sent = [brief, own] if sys.argv[1] == 'by_cloudpickle' else [brief]\n"
        "pickle.loads(pickle.dumps(own))\n"  # within the process that defined it
        "dump = cloudpickle.dumps if sys.argv[1] == 'by_cloudpickle' else pickle.dumps\n"
        "sys.stdout.buffer.write(dump(sent))\n"
    )
    read = (
        "import sys, pickle\n"
        "print([(m.__name__, m({}, {'answer': 'yes'})) for m in pickle.loads(sys.stdin.buffer.read())])\n"
    )
    places = {"PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}"}
    sent = subprocess.run([sys.executable, "-c", write, how], check=True, capture_output=True, env=places)
    got = subprocess.run(
        [sys.executable, "-c", read], check=True, capture_output=True, env=places, input=sent.stdout
    )
    expected = [("brief", True), ("own", True)] if how == "by_cloudpickle" else [("brief", True)]
    assert got.stdout.decode().strip() == repr(expected)


# ── DSPy's optimizers ───────────────────────────────────────────────────────────────────────────


def sorting(n):
    task = sandbox.task("triage")
    return dspy.Predict(task.signature), task.train[:n]


class Listener(BaseCallback):
    """Keeps what models are asked."""

    def __init__(self):
        self.heard = ""

    def on_lm_start(self, call_id, instance, inputs):
        self.heard += str(inputs)


@pytest.mark.parametrize(
    ("each", "feedback"),
    [
        (exact_match, "label: expected"),
        (label_only, "expected label="),
        (metrics.threshold(token_f1, 0.9), "missing words"),
    ],
    ids=["ready-made", "decorated", "combined"],
)
def test_gepa_takes_our_metrics(each, feedback):
    """A tiny run scores its valset above 0, and the reflecting model is shown our feedback."""
    program, train = sorting(6)
    listener = Listener()
    optimizer = dspy.GEPA(
        metric=each,
        max_metric_calls=24,
        reflection_lm=sandbox.lm("sandbox/large"),
        num_threads=1,
        track_stats=True,
        seed=0,
    )
    with dspy.context(lm=sandbox.lm("sandbox/small"), callbacks=[listener]):
        optimized = optimizer.compile(program, trainset=train, valset=train)
    assert 0 < max(optimized.detailed_results.val_aggregate_scores) <= 1
    assert feedback in listener.heard


def test_few_shot_optimizers_take_our_metrics():
    """BootstrapFewShot finds demos with one, and Evaluate scores with it."""
    program, train = sorting(8)
    with dspy.context(lm=sandbox.lm("sandbox/large")):
        bootstrapped = dspy.BootstrapFewShot(metric=exact_match, max_bootstrapped_demos=2).compile(
            program, trainset=train
        )
        found = dspy.Evaluate(devset=train, metric=token_f1, num_threads=1)(bootstrapped)
    assert any(demo.get("augmented") for demo in bootstrapped.demos)
    assert 0 < found.score <= 100


def test_mipro_takes_our_metrics():
    """A small run of MIPROv2 ends with a score."""
    program, train = sorting(8)
    lm = sandbox.lm("sandbox/small")
    optimizer = dspy.MIPROv2(
        metric=exact_match,
        prompt_model=lm,
        task_model=lm,
        auto=None,
        num_candidates=2,
        num_threads=1,
        max_bootstrapped_demos=1,
        max_labeled_demos=1,
        verbose=False,
    )
    with dspy.context(lm=lm):
        optimized = optimizer.compile(
            program, trainset=train[:4], valset=train[4:], num_trials=2, minibatch=False
        )
    assert optimized.score > 0


# ── names ───────────────────────────────────────────────────────────────────────────────────────


def test_named_are_the_ready_made():
    """Each is public under its own name, and is what the command line and the magics offer."""
    assert list(metrics.NAMED) == [
        "exact_match",
        "token_f1",
        "contains",
        "set_f1",
        "list_f1",
        "edit_similarity",
        "json_match",
    ]
    assert all(getattr(metrics, name) is each for name, each in metrics.NAMED.items())
    assert all(each.__doc__ != metrics.FieldMetric.__doc__ for each in metrics.NAMED.values())


def test_public_names_are_sorted():
    """`__all__` is sorted as ruff sorts it, and holds what is there."""
    assert set(metrics.__all__) <= set(vars(metrics))
    assert metrics.__all__ == sorted(
        metrics.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
