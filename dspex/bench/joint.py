"""One search over everything: module, model, temperature, demos and instructions, beside MIPROv2 on the same program.

Every configuration's expected score is known, so what counts is how far the chosen one is below the best of all.
There are two spaces. In one somebody wrote down the house rules, and they are among the instructions; there a
configuration in ninety is within 1 % of the best. The other has prompts that MIPROv2 proposed; there it is one in
three hundred, and what 300 examples say of them is less sure than that.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex import sandbox, session
from dspex.bench.optimizers.proposed import PROPOSER, TASK, Proposed
from dspex.bench.optimizers.table import processes
from dspex.native.signature import signature
from dspex.optimizers import MIPROv2
from dspex.sandbox.families import FAMILIES
from dspex.variables.base import Demos, DemoSet, Instruction, Model, Module, Temperature
from dspex.variables.space import Space

if TYPE_CHECKING:
    from dspex.optimizers.study import Study
    from dspex.variables.protocol import Variable

SEEDS = 10
_N_EACH = 8
"""Proposed instructions, sets of demonstrations, and single demonstrations, at most."""
_N_EXAMPLES = 300
_EFFORT = "medium"
"""MIPROv2's `auto`."""
_NEAR = 0.99
"""Share of the best expected score that counts as having found it."""


class Found(NamedTuple):
    """What BEACON found in one space."""

    best: float
    """The highest expected score of all configurations."""
    score: float
    calls: int
    n_configurations: int
    n_near: int

    @property
    def is_near(self) -> bool:
        """Whether it is within 1 % of the best."""
        return self.score >= _NEAR * self.best


class Joint(NamedTuple):
    """What one seed came to."""

    default: float
    by_mipro: float
    calls_by_mipro: int
    found: tuple[Found, ...]
    """One for each space."""


def run(*, seeds: int = SEEDS) -> None:
    """Print a line for each seed, and what they come to."""
    print(
        f"  {TASK}: module, model, temperature, demos and instructions by dx.optimize(..., optimizer='beacon'), "
        "default budget\n  exact expected scores, and calls to models with everything; * within 1 % of the best"
    )
    print(f"  {'':<8}{'':>9}{'MIPROv2':>18}{'the rules among them':>27}{'prompts by MIPROv2':>27}")
    heading = f"{'best':>9}{'BEACON':>10}{'calls':>8}"
    print(f"  {'seed':<8}{'default':>9}{'score':>10}{'calls':>8}{heading}{heading}")
    done = []
    for seed, each in enumerate(processes().map(search, range(seeds))):
        done.append(each)
        print(_line(str(seed), each), flush=True)
    print(_line("median", _median(done)))
    for k, title in enumerate(("with the rules", "with prompts by MIPROv2")):
        found = [each.found[k] for each in done]
        share = statistics.median(each.n_near / each.n_configurations for each in found)
        print(
            f"  {title}: within 1 % of the best in {sum(each.is_near for each in found)} of {seeds} seeds; "
            f"so near are {share:.1%} of {statistics.median(each.n_configurations for each in found):g}"
        )


def _line(title: str, each: Joint) -> str:
    cells = [f"  {title:<8}{each.default:>9.3f}{each.by_mipro:>10.3f}{each.calls_by_mipro:>8g}"]
    cells += [
        f"{found.best:>9.3f}{found.score:>9.3f}{'*' if found.is_near else ' '}{found.calls:>8g}"
        for found in each.found
    ]
    return "".join(cells)


def _median(done: list[Joint]) -> Joint:
    default, score, calls = (statistics.median(column) for column in zip(*(e[:3] for e in done), strict=True))
    spaces = zip(*(each.found for each in done), strict=True)
    found = [Found(*map(statistics.median, zip(*space, strict=True))) for space in spaces]
    return Joint(default, score, calls, tuple(found))


def search(seed: int) -> Joint:
    """Let BEACON search both spaces of one world, and MIPROv2 its prompts."""
    task = sandbox.task(TASK, seed=seed)
    by_mipro = MIPROv2(auto=_EFFORT, prompt_model=f"sandbox/{PROPOSER}", num_threads=1)
    theirs = _optimized(task, seed, optimizer=by_mipro)
    return Joint(
        task.optimum([{}]).score,
        sandbox.expected_score(theirs.program, task.dev),
        theirs.usage.calls,
        tuple(_found(task, seed, space) for space in (with_rules(task), with_proposals(seed))),
    )


def _found(task: sandbox.Task, seed: int, space: Space) -> Found:
    truths = {space.key_of(each): _truth(task, space, each) for each in space.configurations()}
    study = _optimized(task, seed, space=space, optimizer="beacon")
    best = max(truths.values())
    n_near = sum(each >= _NEAR * best for each in truths.values())
    return Found(best, truths[study.best.configuration_key], study.usage.calls, len(truths), n_near)


def _truth(task: sandbox.Task, space: Space, configuration: Any) -> float:
    said = {**configuration}
    if isinstance(space["demos"], DemoSet):
        said["demos"] = space["demos"].resolve(said["demos"])
    return task.optimum([said]).score


def with_rules(task: sandbox.Task) -> Space:
    """Make a space whose instructions say nothing, platitudes, some of the house rules, or all of them."""
    rules = [skill.statement for skill in FAMILIES[task.name].skills if skill.statement]
    said = [[], ["Be precise and keep to the requested form."], rules[:2], rules[::2], rules[1::2], rules]
    return _space(
        Instruction(["\n".join([task.instructions, *each]) for each in said]),
        Demos(0, _N_EACH, examples=task.train[:_N_EACH]),
    )


def with_proposals(seed: int) -> Space:
    """Make a space of the prompts that MIPROv2 proposes."""
    instructions, demos = Proposed(seed).candidates
    return _space(
        Instruction(list(dict.fromkeys(instructions))[:_N_EACH]),
        DemoSet({f"set {number}": list(each) for number, each in enumerate(demos[:_N_EACH])}),
    )


def _space(instructions: Variable, demos: Variable) -> Space:
    return Space(
        module=Module(["Predict", "ChainOfThought"]),
        model=Model(list(sandbox.MODELS)),
        temperature=Temperature(0.0, 1.5, default=0.75, step=0.25),
        demos=demos,
        instructions=instructions,
    )


def _optimized(task: sandbox.Task, seed: int, **given: Any) -> Study:
    runtime = session.configure(sandbox.MODELS, store="memory")
    try:
        return session.optimize(
            signature(task.signature, task.instructions),
            trainset=task.train,
            valset=task.dev[:_N_EXAMPLES],
            metric=task.metric,
            seed=seed,
            **given,
        ).wait()
    finally:
        runtime.close()
