"""The command line: the main job from a shell, and the demo."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dspex import session
from dspex.errors import DataError, DefinitionError, DspexError, ExecutionError, UnknownNameError
from dspex.native import metrics
from dspex.optimizers.definition import Budget
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.events import Event
    from dspex.optimizers.study import Study
    from dspex.records import Trial
    from dspex.runtime import Runtime

_CELL_TIMEOUT_S = 300


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises our errors instead of leaving the process; magics use it too."""

    @property
    def option_names(self) -> list[str]:
        """Every option, as it is written."""
        return [name for each in self._actions for name in each.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise DefinitionError(f"{self.prog}: {message}", hint=f"{self.prog} -h shows how it is written")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add what `optimize` takes on the command line and in a notebook alike."""
    parser.add_argument(
        "--metric",
        default="exact_match",
        help=f"{', '.join(metrics.NAMED)}; in a notebook also a function's name",
    )
    parser.add_argument(
        "--optimizer",
        default="beacon",
        help="beacon (default), gp, tpe, random, or one of DSPy's: simba, miprov2, gepa ...",
    )
    parser.add_argument(
        "--trials", type=int, help="at most so many (default 40; DSPy's optimizers end by themselves)"
    )
    parser.add_argument("--seconds", type=float, help="stop searching after so many seconds")
    parser.add_argument("--usd", type=float, help="spend at most so many US dollars")
    parser.add_argument("--calls", type=int, help="make at most so many calls to models")
    parser.add_argument("--tokens", type=int, help="use at most so many tokens, in and out")
    parser.add_argument("--patience", type=int, help="stop after so many trials without a better one")
    parser.add_argument("--seed", type=int, default=0, help="one seed, one study (default 0)")
    parser.add_argument("--name", help="what the store calls the study")
    parser.add_argument("--resume", action="store_true", help="go on with the study of that name")


def search_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that `add_search_options` added, as `optimize` takes them."""
    return {
        "optimizer": given.optimizer,
        "budget": Budget(given.trials, given.seconds, given.usd, given.calls, given.tokens, given.patience),
        "seed": given.seed,
        "name": given.name,
        "resume": given.resume,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    parser = _parser()
    try:
        given = parser.parse_args(arguments)
        given.run(given)
    except DspexError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> Parser:
    parser = Parser(prog="dspex", description="Make DSPy programs learn how to run themselves.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    demo = commands.add_parser("demo", help="run the quickstart on the sandbox and print what it found")
    demo.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="where to write (default build/demo)"
    )
    demo.set_defaults(run=_demo)

    bench = commands.add_parser("bench", help="measure, and print figures beside a named peer")
    bench.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="cache, overhead, reliability, routing, scoring, soak ...; all but soak if left out",
    )
    bench.add_argument("--seeds", type=int, metavar="N", help="of the benchmark optimizers (default 20)")
    bench.add_argument(
        "--matrix", type=Path, metavar="FILE", help="scores for optimizers: .npz, configurations by examples"
    )
    bench.add_argument(
        "--seconds", type=float, metavar="S", help="how long the soak lasts (default 60, or DSPEX_SOAK_S)"
    )
    bench.set_defaults(run=_bench)

    execute = commands.add_parser("execute", help="run a task the way that is believed to pay")
    execute.add_argument("signature", help="such as 'question -> answer: float'")
    execute.add_argument("inputs", nargs="*", metavar="FIELD=VALUE", help="the input fields")
    execute.add_argument("--instructions", help="how the task should be done")
    _add_models(execute)
    execute.set_defaults(run=_execute)

    optimize = commands.add_parser("optimize", help="search for the best way to run a task")
    optimize.add_argument("signature", help="such as 'question -> answer: float', or sandbox:TASK")
    optimize.add_argument(
        "--space", help="lines as in Space.parse, separated by ';'; DSPy's optimizers need none"
    )
    optimize.add_argument("--train", type=Path, help="examples: a JSON object a line")
    optimize.add_argument("--val", type=Path, help="examples that are scored instead")
    optimize.add_argument("--instructions", help="how the task should be done")
    optimize.add_argument("--save", type=Path, help="write the best program's state to this JSON file")
    add_search_options(optimize)
    _add_models(optimize)
    optimize.set_defaults(run=_optimize)

    study = commands.add_parser("study", help="check the zip of a study that somebody exported")
    study.add_argument("action", choices=["verify"], help="verify: every file is as it was written")
    study.add_argument("file", type=Path, metavar="FILE.zip", help="what study.export wrote")
    study.set_defaults(run=_verify)

    for name, help_text in (
        ("runs", "list the studies"),
        ("route", "show what was learned about the last task"),
    ):
        commands.add_parser(name, help=help_text).set_defaults(run={"runs": _runs, "route": _route}[name])
    _add_sandbox(commands)
    history = commands.add_parser("history", help="list what was executed, newest first")
    history.add_argument("-n", type=int, default=20, help="at most so many (default 20)")
    history.set_defaults(run=_history)
    return parser


def _add_sandbox(commands: Any) -> None:
    parser = commands.add_parser("sandbox", help="use the simulated models from outside")
    serve = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser).add_parser(
        "serve", help="answer over HTTP as OpenAI would, until interrupted"
    )
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    serve.add_argument("--port", type=int, default=8077, help="0 for one that is free (default 8077)")
    serve.add_argument("--faults", type=Path, help="a TOML file that says what shall go wrong")
    serve.add_argument("--api-key", help="the only key that is taken; any is if left out")
    serve.add_argument("--seed", type=int, default=0, help="another seed is another model (default 0)")
    serve.add_argument("--pace", type=float, default=0.0, help="1 takes as long as a model would (default 0)")
    serve.set_defaults(run=_serve)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", help="DSPy model strings; the sandbox if left out")
    parser.add_argument("--objective", default="balanced", help="balanced, quality, latency or cost")


def _execute(given: argparse.Namespace) -> None:
    from dspex.native.signature import signature

    session.configure(given.models, objective=given.objective)
    fields = {}
    for pair in given.inputs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise DefinitionError(
                f"an input is written FIELD=VALUE, got {pair!r}", hint=f"{shlex.quote(pair + '=...')}"
            )
        fields[name] = value
    print(session.execute(signature(given.signature, given.instructions), fields))


def _optimize(given: argparse.Namespace) -> None:
    from dspex import sandbox
    from dspex.native.signature import signature

    session.configure(given.models, objective=given.objective)
    space = None if given.space is None else Space.parse(given.space.replace(";", "\n"))
    kind, _, task_name = given.signature.partition("sandbox:")
    if task_name and not kind:
        task = sandbox.task(task_name)
        described = signature(task.signature, given.instructions or task.instructions, name=task_name.title())
        train: Any = task.train
        val: Any = task.dev
    elif given.train is None:
        raise DataError(
            "optimize needs examples", hint="--train FILE with a JSON object a line, or sandbox:triage"
        )
    else:
        described = signature(given.signature, given.instructions)
        train, val = _examples(given.train), None if given.val is None else _examples(given.val)
    if given.metric not in metrics.NAMED:
        raise UnknownNameError.among("metric", given.metric, metrics.NAMED)
    runtime = session.current()
    unsubscribe = runtime.events.subscribe(_Progress(given.trials))
    try:
        study = session.optimize(
            described,
            space=space,
            trainset=train,
            valset=val,
            metric=metrics.NAMED[given.metric],
            **search_options(given),
        ).wait()
    finally:
        unsubscribe()
    _print_study(study)
    if given.save is not None:
        study.program.save(given.save)
        print(f"saved      {given.save}")


def _print_study(study: Study) -> None:
    print(f"study      {study.name}: {study.reason}")
    if study.baseline is not None:
        print(f"before     {study.baseline.score:.3f} on {study.baseline.n_examples} examples")
    print(f"after      {study.best.score:.3f}  with {json.dumps(dict(study.best.configuration))}")
    simulated = " (simulated)" if study.is_simulated else ""
    spent = study.usage
    print(f"spent      ${spent.cost_usd:.4f}{simulated} on {spent.calls} calls in {len(study.trials)} trials")


class _Progress:
    """Prints one line a trial; in a terminal the line is written over."""

    def __init__(self, planned: int | None) -> None:
        self._planned = planned
        self._trials: dict[int, Trial] = {}
        self._end = "\r" if sys.stderr.isatty() else "\n"

    def __call__(self, event: Event) -> None:
        from dspex.events import StudyFinished, TrialFinished

        if isinstance(event, TrialFinished):
            trial = event.trial
            self._trials[trial.number] = trial
            print(
                f"{self._bar(len(self._trials))}trial {trial.number:>3} ({trial.phase}): {trial.score:.3f} on "
                f"{trial.n_examples} examples, best {self._best():.3f}   ",
                end=self._end,
                file=sys.stderr,
                flush=True,
            )
        elif isinstance(event, StudyFinished) and self._end == "\r":
            print(file=sys.stderr)

    def _best(self) -> float:
        """Return the best score of those on enough examples: half as many as the most."""
        enough = max(trial.n_examples for trial in self._trials.values()) / 2
        return max(trial.score for trial in self._trials.values() if trial.n_examples >= enough)

    def _bar(self, n_done: int) -> str:
        """Draw how far a study is that said how many trials it would make."""
        if self._planned is None:
            return ""
        filled = round(20 * min(1.0, n_done / self._planned))
        return "█" * filled + "░" * (20 - filled) + " "


def _examples(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    examples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number} is not JSON: {error}") from error
        examples.append(example)
    return examples


def _verify(given: argparse.Namespace) -> None:
    from dspex.optimizers import archive

    found = archive.verify(given.file)
    print(f"{given.file} is as it was exported: {found.study}, {found.n_files} files, {found.n_bytes} bytes")


def _bench(given: argparse.Namespace) -> None:
    from dspex import bench

    options = {"seeds": given.seeds, "matrix": given.matrix, "seconds": given.seconds}
    bench.run(given.names, **{name: value for name, value in options.items() if value is not None})


def _serve(given: argparse.Namespace) -> None:
    from dspex.sandbox.server import server

    made = server(
        host=given.host,
        port=given.port,
        faults=given.faults,
        api_key=given.api_key,
        seed=given.seed,
        pace=given.pace,
    )
    print(f"the sandbox's simulated models answer at {made.url}", flush=True)
    print("  try    dspy.LM('openai/sandbox/small', api_base=..., api_key=...)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        made.run()
    print(f"stopped after {len(made.calls)} calls")


def _looking_back() -> Runtime:
    """Return a runtime to read with; as nothing is run, its models do not matter."""
    from dspex import sandbox

    return session.configure(sandbox.MODELS)


def _runs(_given: argparse.Namespace) -> None:
    frame = _looking_back().runs()
    columns = ["state", "program", "optimizer", "baseline_score", "best_score", "trials", "calls", "cost_usd"]
    print(frame[columns].to_string() if len(frame) else "no study yet: dspex optimize")


def _route(_given: argparse.Namespace) -> None:
    print(_looking_back().route())


def _history(given: argparse.Namespace) -> None:
    frame = _looking_back().history(given.n)
    columns = [
        "at",
        "signature",
        "model",
        "module",
        "role",
        "ok",
        "quality",
        "latency_s",
        "cost_usd",
        "error",
    ]
    print(frame[columns].to_string(index=False) if len(frame) else "nothing executed yet: dspex execute")


# ── the demo ────────────────────────────────────────────────────────────────────────────────────


def _demo(given: argparse.Namespace) -> None:
    """Execute the quickstart headless, keep it as a notebook and as HTML, and print what it found."""
    missing = [
        name for name in ("nbclient", "nbconvert", "ipykernel") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise DefinitionError(f"the demo needs {', '.join(missing)}", hint="pip install 'dspex[lab]'")
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    store = (out / "demo.db").absolute()
    for leftover in out.glob("demo.db*"):
        leftover.unlink()
    os.environ["DSPEX_STORE"] = f"sqlite:///{store}"
    os.environ["DSPEX_STATIC"] = "1"  # a page has no kernel: pictures, not widgets
    began = time.monotonic()
    print("running the quickstart on the sandbox (its models are simulated) …", flush=True)
    notebook, page = _run_quickstart(out)
    _print_demo(time.monotonic() - began, notebook, page)


def _run_quickstart(out: Path) -> tuple[Path, Path]:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter

    document = nbformat.read(_quickstart(), as_version=4)
    notebook, page = out / "00_quickstart.ipynb", out / "00_quickstart.html"
    client = NotebookClient(
        document,
        timeout=_CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(out)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: its advice is for servers
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise ExecutionError(
            f"the quickstart stopped with {error.ename}: {error.evalue}",
            hint=f"{notebook} holds it up to there",
        ) from error
    finally:
        nbformat.write(document, notebook)
    body, _ = HTMLExporter().from_notebook_node(document)
    page.write_text(body, encoding="utf-8")
    return notebook, page


def _quickstart() -> Path:
    """Find the quickstart: in the installed package, or in the checkout it is developed in."""
    package = Path(__file__).parent
    for place in (
        package / "notebook" / "quickstart.ipynb",
        package.parent / "notebooks" / "00_quickstart.ipynb",
    ):
        if place.is_file():
            return place
    raise DefinitionError("the quickstart notebook is not installed", hint="pip install dspex again")


def _print_demo(seconds: float, notebook: Path, page: Path) -> None:
    from dspex import sandbox
    from dspex.store import Store, default_url

    store = Store(default_url())
    row = store.studies().iloc[0]
    store.close()
    learned = session.configure(sandbox.MODELS).route()
    best = learned.now.index[0]
    print(f"""
study      {row["name"]}: {row["trials"]} trials, {row["calls"]} simulated calls, ${row["cost_usd"]:.4f} simulated
score      {row["baseline_score"]:.3f} before → {row["best_score"]:.3f} after, on the same examples
best       {json.dumps(row["best_configuration"])}
route      {learned.signature}: {best}, chosen {learned.now["share"].iloc[0]:.0%} of {int(learned.now["n"].sum())} times
time       {seconds:.1f} s
notebook   {notebook}
open       {page}""")
