"""Extraction: pull one span out of a short report, by house conventions about what it includes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dspex.sandbox.items import Family, Item, Need, pick, sentences, skill

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

_LEAVE_OUT = r"without|leave out|drop|omit|no\b|never|exclud|not includ"
_SKILLS = (
    skill("locate"),
    skill(
        "distinguish",
        "When a report has several dates, people or numbers, take the one whose sentence the question is about.",
        r"several|more than one|multiple|two",
        r"date|people|person|number|id",
        r"question|asked",
    ),
    skill(
        "bare_name",
        "Give a person's name without the title.",
        r"name|person",
        r"title|\bMr\b|\bDr\b",
        _LEAVE_OUT,
    ),
    skill(
        "bare_id",
        "Give an order id without the # sign.",
        r"\bids?\b|order number",
        r"#|hash|sign",
        _LEAVE_OUT,
    ),
    skill("bare_date", "Give a date without the weekday.", r"date", r"weekday|day of the week", _LEAVE_OUT),
)

# ── the solver ──────────────────────────────────────────────────────────────────────────────────

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(
    rf"(?P<extra>(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, )?(?P<bare>\d{{1,2}} (?:{_MONTHS}))"
)
_FIRST = {
    "Ana": "Ms ", "Tom": "Mr ", "Mei": "Ms ", "Omar": "Mr ", "Julia": "Ms ", "Samuel": "Mr ",
    "Lena": "Ms ", "Raj": "Mr ", "Ivo": "Mr ", "Nora": "Ms ", "Elif": "Ms ", "Marek": "Mr ",
}  # fmt: skip
_PERSON = re.compile(
    rf"(?P<extra>(?:Mr|Ms|Dr|Prof) )(?P<bare>[A-Z]\w+ [A-Z]\w+)|(?P<untitled>(?:{'|'.join(_FIRST)}) [A-Z]\w+)"
)
_ORDER = re.compile(r"(?P<extra>#)?(?P<bare>\b[A-Z]-\d{3,})")
_TRACKING = re.compile(r"(?P<bare>\bTRK\d+)")
_CITY = re.compile(r"delivered to (?P<bare>[A-Z]\w+)")
_TOTAL = re.compile(r"(?P<bare>\$\d+)")

_Facts = dict[str, tuple[str, str]]
"""Fact → (the span by convention, the span as it stands in the text)."""

_PLACES = (
    ("order id", "bare_id", _ORDER, re.compile(r"[Oo]rder")),
    ("tracking number", "", _TRACKING, re.compile(r"tracking")),
    ("order date", "bare_date", _DATE, re.compile(r"placed")),
    ("shipping date", "bare_date", _DATE, re.compile(r"shipped|left the")),
    ("delivery date", "bare_date", _DATE, re.compile(r"delivered")),
    ("customer", "bare_name", _PERSON, re.compile(r"placed")),
    ("signer", "bare_name", _PERSON, re.compile(r"signed")),
    ("agent", "bare_name", _PERSON, re.compile(r"handled")),
    ("city", "", _CITY, re.compile(r"delivered to")),
    ("total", "", _TOTAL, re.compile(r"total|paid")),
)
_CONVENTION = {name: convention for name, convention, _, _ in _PLACES}
_ASKED = (
    ("tracking number", re.compile(r"tracking", re.IGNORECASE)),
    ("order id", re.compile(r"order (id|number)", re.IGNORECASE)),
    ("signer", re.compile(r"who.*(sign|accept)", re.IGNORECASE)),
    ("agent", re.compile(r"who.*handle", re.IGNORECASE)),
    ("customer", re.compile(r"who.*(placed|ordered)", re.IGNORECASE)),
    ("delivery date", re.compile(r"(when|date|day).*(delivered|delivery|arrive)", re.IGNORECASE)),
    ("shipping date", re.compile(r"(when|date|day).*(ship|leave|left)", re.IGNORECASE)),
    ("order date", re.compile(r"(when|date|day).*(placed|order)", re.IGNORECASE)),
    ("city", re.compile(r"city|where", re.IGNORECASE)),
    ("total", re.compile(r"how much|total|paid", re.IGNORECASE)),
)
_KINDS = (
    ("order date", "shipping date", "delivery date"),
    ("customer", "signer", "agent"),
    ("order id", "tracking number"),
)


def solve(inputs: Mapping[str, str]) -> Item | None:
    """Find the fact that the question asks for."""
    passage, question = inputs.get("passage"), inputs.get("question")
    if not passage or not question:
        return None
    facts = _facts(passage)
    asked = next((name for name, cue in _ASKED if cue.search(question)), None)
    if asked is None or asked not in facts:
        return None
    answer, written = facts[asked]
    other = next(
        (spans[0] for name, spans in facts.items() if name not in _kin(asked) and spans[0] != answer), "none"
    )
    needs = [Need("locate", other, f"The question asks for the {asked}.")]
    rivals = [facts[name][0] for name in _kin(asked) if name in facts and facts[name][0] != answer]
    if rivals:
        needs.append(Need("distinguish", rivals[0], f"Of several, the {asked} is {written}."))
    if written != answer:
        needs.append(Need(_CONVENTION[asked], written, f"Only {answer} belongs to the span."))
    return Item("extraction", f"{passage.strip()} | {question.strip()}", answer, tuple(needs))


def _facts(passage: str) -> _Facts:
    facts: _Facts = {}
    for sentence in sentences(passage):
        for name, _, span, cue in _PLACES:
            found = span.search(sentence) if name not in facts and cue.search(sentence) else None
            if found:
                groups = found.groupdict()
                bare = groups["bare"] or groups["untitled"]
                facts[name] = bare, (groups.get("extra") or "") + bare
    return facts


def _kin(name: str) -> tuple[str, ...]:
    return next((kind for kind in _KINDS if name in kind), (name,))


# ── the generator ───────────────────────────────────────────────────────────────────────────────

_REPORT = (
    (
        "Order {id} was placed by {customer} on {ordered}.",
        "On {ordered}, {customer} placed order {id}.",
        "{customer} placed order {id} through the website on {ordered}.",
    ),
    (
        "The total of ${total} was paid by card.",
        "The customer paid ${total} in advance.",
        "A total of ${total} was due.",
    ),
    (
        "It was shipped on {shipped} with tracking number {trk}.",
        "The parcel left the warehouse on {shipped}; its tracking number is {trk}.",
    ),
    (
        "It was delivered to {city} on {delivered} and signed for by {signer}.",
        "On {delivered} the parcel was delivered to {city}, where {signer} signed for it.",
    ),
    ("{agent} handled a question about the invoice.", "A later complaint was handled by {agent}."),
)
_QUESTIONS = (
    ("What is the order id?", "Which order number does the report name?"),
    ("What is the tracking number?", "Which tracking number was given?"),
    ("When was the order placed?", "On which date was the order placed?"),
    ("When was the parcel shipped?", "On which date did the parcel leave the warehouse?"),
    ("When was the parcel delivered?", "On which date did the parcel arrive?"),
    ("Who placed the order?", "Who ordered the goods?"),
    ("Who signed for the parcel?", "Who accepted the parcel and signed?"),
    ("Who handled the complaint or question?",),
    ("To which city was the parcel delivered?", "Where was the parcel delivered?"),
    ("How much was paid?", "What was the total?"),
)
_LAST = (
    "Silva",
    "Becker",
    "Lin",
    "Haddad",
    "Novak",
    "Okoye",
    "Fischer",
    "Patel",
    "Moreau",
    "Kaya",
    "Olsen",
    "Rossi",
)
_CITIES = ("Lisbon", "Hamburg", "Porto", "Vienna", "Krakow", "Oslo", "Lyon", "Turin", "Ghent", "Malmo")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def draw(rng: Random, index: int) -> dict[str, str]:
    """Write a report and a question about it; the questions take turns."""
    names = rng.sample(tuple(_FIRST), 3)
    people = [pick(rng, (_FIRST[name], "Dr ", "Prof ", "")) + f"{name} {pick(rng, _LAST)}" for name in names]
    first, weekday, month = rng.randint(1, 9), rng.randrange(7), pick(rng, tuple(_MONTHS.split("|")))
    dates = []
    for later in (0, rng.randint(1, 6), rng.randint(7, 15)):
        day_of_week = pick(rng, (_WEEKDAYS[(weekday + later) % 7] + ", ",) * 4 + ("",))
        dates.append(f"{day_of_week}{first + later} {month}")
    passage = " ".join(pick(rng, variants) for variants in _REPORT).format(
        id=pick(rng, ("#", "#", "")) + f"{pick(rng, tuple('ABCDEFGH'))}-{rng.randint(1000, 9999)}",
        trk=f"TRK{rng.randint(10000, 99999)}",
        customer=people[0], signer=people[1], agent=people[2],
        ordered=dates[0], shipped=dates[1], delivered=dates[2],
        city=pick(rng, _CITIES), total=rng.randint(12, 950),
    )  # fmt: skip
    return {"passage": passage, "question": pick(rng, _QUESTIONS[index % len(_QUESTIONS)])}


FAMILY = Family(
    name="extraction",
    description="Extract one span from simulated delivery reports; conventions say what the span includes.",
    signature="passage, question -> span",
    instructions="Answer the question with a span from the passage.",
    inputs=("passage", "question"),
    output="span",
    skills=_SKILLS,
    draw=draw,
    solve=solve,
)
