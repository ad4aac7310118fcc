"""Tab in a dspex magic offers what may stand there, and nothing elsewhere."""

import pytest
from IPython.core.completer import provisionalcompleter

import dspex as dx
from dspex.notebook.complete import offer

NAMES = {"Triage": 1, "train": [], "_hidden": 2, "S": 3}


@pytest.mark.parametrize(
    ("text", "fragment", "words"),
    [
        ("%dspex sig", "sig", ["signature"]),
        ("%%dspex sp", "sp", ["space"]),
        ("x = 1\nstudy = %dspex opt", "opt", ["optimize"]),
        ("%dspex optimize Triage --sp", "--sp", ["--space"]),
        ("%dspex optimize Triage --optimizer ra", "ra", ["random"]),
        ("%dspex optimize Triage --metric exa", "exa", ["exact_match"]),
        ("%dspex optimize Triage --train tr", "tr", ["train"]),
        ("%dspex lm sandbox/sm", "sandbox/sm", ["sandbox/small"]),
        ("%dspex route Tri", "Tri", ["Triage"]),
        ("%%dspex space S\ntone: ch", "ch", ["choice"]),
        ("%%dspex space S\nmodel: model = sandbox/small | sandbox/l", "sandbox/l", ["sandbox/large"]),
        ("%%dspex space S\nmodule: module = Chain", "Chain", ["ChainOfThought"]),
        ("%%dspex space S\nadapter: adapter = j", "j", ["json"]),
        ("%%dspex space S\nt: float = 0 .. 1 (def", "def", ["default"]),
        ("%%dspex space S\nstrict: bool\nn: int = 1 .. 3 when str", "str", ["strict"]),
        ("%%dspex space S\nn: int = 1 .. 3\nreq", "req", ["require"]),
        ("%%dspex signature T\nquestion -> sure: prob", "prob", ["probability"]),
    ],
)
def test_what_fits_is_offered(text, fragment, words):
    """A command, an option, its values, the notebook's names, and the words of a cell's own grammar."""
    assert offer(text, NAMES) == (fragment, words)


@pytest.mark.parametrize(
    "text", ["", "print('%dspex')\nx", "%timeit f", "%dspex nonsense x", "%%dspex optimize T\nx"]
)
def test_elsewhere_nothing_is_offered(text):
    """Outside of dspex's magics, and where it has no idea, Python's own completion goes on."""
    found = offer(text, NAMES)
    assert found is None or found.words == []


def test_hidden_names_are_not_offered():
    """What begins with an underscore is nobody's trainset."""
    assert offer("%dspex optimize T --train ", NAMES).words == ["S", "Triage", "train"]


def completed(completer, text):
    """Press Tab at the end of a cell."""
    with provisionalcompleter():
        return [each.text for each in completer.completions(text, len(text))]


def test_the_shell_asks_it_and_forgets_it(shell):
    """Loading adds one matcher, doing it twice does not add another, unloading takes it away."""
    shell.run_line_magic("reload_ext", "dspex")
    completer = shell.Completer
    assert [each.matcher_identifier for each in completer.custom_matchers] == ["dspex"]
    completer.use_jedi = False
    text = "%%dspex space S\ntone: ch"
    assert completed(completer, text) == ["choice"]
    shell.user_ns["trainset"] = dx.sandbox.task("triage").train
    line = "%dspex optimize T --train trains"
    assert completed(completer, line) == ["trainset"]
    shell.run_line_magic("unload_ext", "dspex")
    assert completer.custom_matchers == []
    shell.run_line_magic("load_ext", "dspex")
