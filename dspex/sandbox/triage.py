"""Triage: support messages, their labels, and eight house rules that nobody tells the model."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

from dspex.sandbox.items import Family, Item, Need, pick, sentences, skill

if TYPE_CHECKING:
    from collections.abc import Mapping

LABELS = ("billing", "refund", "shipping", "technical", "account", "escalation")
_LIMIT_USD = 500

_SKILLS = (
    skill("topic"),
    skill(
        "refund_over_500",
        "A refund of more than $500 is an escalation.",
        r"refund|money back|reimburs",
        r"500",
        r"escalat",
    ),
    skill(
        "repeated_contact",
        "A customer who has written before about the same thing is an escalation.",
        r"before|again|repeat|already|second time|third time|twice",
        r"writ|contact|wrote|messag",
        r"escalat",
    ),
    skill(
        "legal_threat",
        "A customer who threatens with a lawyer or a court is an escalation.",
        r"lawyer|legal|court|solicitor|attorney",
        r"escalat",
    ),
    skill(
        "charged_twice",
        "A payment that was charged twice is a refund, not billing.",
        r"twice|duplicate|double|two times",
        r"charg|payment|paid|billed",
        r"refund",
    ),
    skill(
        "damaged_parcel",
        "A parcel that arrives damaged is a refund, not shipping.",
        r"damage|broken|crushed",
        r"refund",
    ),
    skill(
        "address_change",
        "A parcel that should go to a new address is an account matter, not shipping.",
        r"address|moved",
        r"account",
    ),
    skill(
        "payment_crash",
        "An error or crash while paying is billing, not technical.",
        r"crash|error|fail",
        r"pay|checkout",
        r"billing",
    ),
    skill(
        "reset_mail",
        "A password reset mail that never comes is technical, not account.",
        r"reset|password",
        r"technical",
    ),
)

# ── the solver ──────────────────────────────────────────────────────────────────────────────────

_TOPICS = (
    ("refund", re.compile(r"\brefund|money back|\$\d+(\.\d\d)? back|reimburse")),
    ("technical", re.compile(r"\bapp\b|\berror|\bfreez|\bcrash|\bblank\b|\bbug\b")),
    ("account", re.compile(r"\baccount|\blog ?in\b|\bpassword|\bsign in\b")),
    ("shipping", re.compile(r"\bparcel|\bdeliver|\bcourier|\btracking|\bpackage|\bship|\barriv")),
    ("billing", re.compile(r"\binvoice|\bbill|\bcharge|\bpayment|\bprice|\breceipt|\bfee\b|\bstatement\b")),
)
_NEIGHBOUR = {
    "refund": "billing",
    "billing": "refund",
    "shipping": "account",
    "technical": "account",
    "account": "technical",
}
_AMOUNT = re.compile(r"\$(\d+)")
_REPEATED = re.compile(
    r"(second|third|fourth) time|contacted you|already (written|wrote|asked)|last two messages|wrote to you before"
)
_LEGAL = re.compile(r"\blawyer|\battorney|\bsolicitor|\bcourt\b|legal action")
_TWICE = re.compile(r"(charg|payment|paid|billed).*(twice|two times)|(duplicate|double) (charge|payment)")
_DAMAGED = re.compile(r"\bbroken|\bdamaged|\bcrushed|\bcracked|in pieces")
_ADDRESS = re.compile(r"new address|i have moved|we have moved|different address")
_PAYING = re.compile(r"checkout|\bpay\b|\bpayment")
_RESET = re.compile(r"\breset\b.*\b(never|not|no)\b|\b(never|not|no)\b.*\breset\b")

_Rule = tuple[str, str, str]


def solve(inputs: Mapping[str, str]) -> Item | None:
    """Label a message by its topic and the house rules."""
    message = inputs.get("message") or (next(iter(inputs.values())) if len(inputs) == 1 else "")
    text = message.lower()
    topic = next((name for name, cue in _TOPICS if cue.search(text)), None)
    if topic is None:
        return None
    moved, escalated = _topic_rule(topic, text), _escalation_rule(topic, text)
    usual = moved[1] if moved else topic
    answer = escalated[1] if escalated else usual
    neighbour = _NEIGHBOUR[topic] if _NEIGHBOUR[topic] != answer else "shipping"
    needs = [Need("topic", neighbour, f"The message is about {topic}.")]
    if escalated:
        needs.append(Need(escalated[0], usual, escalated[2]))
    elif moved:
        needs.append(Need(moved[0], topic, moved[2]))
    return Item("triage", message.strip(), answer, tuple(needs))


def _escalation_rule(topic: str, text: str) -> _Rule | None:
    if _LEGAL.search(text):
        return "legal_threat", "escalation", "The customer threatens with the law."
    if _REPEATED.search(text):
        return "repeated_contact", "escalation", "The customer has written before."
    if topic == "refund" and max(map(int, _AMOUNT.findall(text)), default=0) > _LIMIT_USD:
        return "refund_over_500", "escalation", f"The amount is above ${_LIMIT_USD}."
    return None


def _topic_rule(topic: str, text: str) -> _Rule | None:
    if topic == "billing" and any(_TWICE.search(part) for part in sentences(text)):
        return "charged_twice", "refund", "The same payment was taken twice."
    if topic == "shipping" and _DAMAGED.search(text):
        return "damaged_parcel", "refund", "The goods arrived damaged."
    if topic == "shipping" and _ADDRESS.search(text):
        return "address_change", "account", "The address has to change first."
    if topic == "technical" and _PAYING.search(text):
        return "payment_crash", "billing", "It goes wrong while paying."
    if topic == "account" and _RESET.search(text):
        return "reset_mail", "technical", "The reset mail is not delivered."
    return None


# ── the generator ───────────────────────────────────────────────────────────────────────────────

_PLAIN = {
    "billing": (
        "My invoice for {month} shows a fee of ${small} that I do not recognise.",
        "Could you explain the ${small} line on my {month} bill?",
        "I need a receipt for the {product} I bought in {month}.",
        "The price on my invoice is ${small}, but your website says less for the {product}.",
        "When is the next payment for my {plan} plan due?",
    ),
    "refund": (
        "I would like a refund of ${small} for the {product}, it is not what I expected.",
        "Please refund the ${small} that I paid for the {product}; I sent it back in {month}.",
        "How do I get my ${small} back? I returned the {product} in {month}.",
        "I cancelled the {plan} plan within the trial and want my money back, it was ${small}.",
    ),
    "shipping": (
        "My {product} was promised for {day} and the parcel is not here.",
        "Where is the parcel with my {product}? The tracking page has not moved since {day}.",
        "The courier left my {product} with a neighbour whom I do not know.",
        "Can the delivery of the {product} be moved to {day}?",
    ),
    "technical": (
        "The {app} app shows an error whenever I open the {screen} screen.",
        "Since the update in {month} the {app} app freezes on my {device}.",
        "The {screen} screen stays blank on my {device}, although I reinstalled the {app} app.",
        "There is a bug in the {screen} screen of the {app} app, it forgets what I typed.",
    ),
    "account": (
        "I cannot log in from my {device} any more.",
        "Please change the name on my account to {name}.",
        "I want to delete my account and everything stored in it by {day}.",
        "How do I add {name} as a second user of my account?",
    ),
}
_RULED = {
    "refund_over_500": (
        "I would like a refund of ${big} for the {product}, it is not what I expected.",
        "Please refund the ${big} that I paid for the {product}; I sent it back in {month}.",
        "I want my money back for the {product}, that is ${big}.",
    ),
    "charged_twice": (
        "I was charged twice for the {product}, ${small} each time.",
        "My card shows the ${small} payment for the {plan} plan two times.",
        "There is a duplicate charge of ${small} on my {month} statement.",
    ),
    "damaged_parcel": (
        "The {product} arrived broken, the courier must have dropped it.",
        "My parcel came on {day} and the {product} inside was damaged.",
        "The package with the {product} was crushed when it got here on {day}.",
    ),
    "address_change": (
        "I have moved to {street}; please deliver the {product} there.",
        "Can you send the parcel with the {product} to my new address, {street}?",
        "The {product} ships on {day}, but it should go to a different address: {street}.",
    ),
    "payment_crash": (
        "The {app} app crashes as soon as I try to pay for the {product}.",
        "I get an error at checkout when I buy the {product} on my {device}.",
        "The {app} app freezes during payment, ${small} for the {plan} plan.",
    ),
    "reset_mail": (
        "The password reset mail never reaches me, so I am stuck on my {device}.",
        "I asked for a password reset on {day} and got no e-mail.",
        "No reset link for my password has come since {day}.",
    ),
}
_ADDED = {
    "repeated_contact": (
        "This is the third time I tell you.",
        "I have already written to you about this in {month}.",
        "Nobody answered my last two messages.",
        "I contacted you on {day} and heard nothing.",
    ),
    "legal_threat": (
        "My lawyer has a copy of this message.",
        "I am ready to take this to court.",
        "Otherwise I will talk to my solicitor on {day}.",
        "I am considering legal action.",
    ),
}
_OPENINGS = ("Hello,", "Hi there,", "Good morning,", "Dear team,", "Hello support,", "Hi,")
_CLOSINGS = (
    "Thanks, {name}",
    "Kind regards, {name}",
    "Please answer by {day}.",
    "I look forward to your reply.",
    "{name}",
    "",
)
_WORDS = {
    "month": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "product": (
        "desk lamp", "coffee grinder", "wool blanket", "bike helmet", "garden chair", "tea kettle", "yoga mat",
        "bookshelf", "sewing machine", "rain jacket", "picture frame", "camping stove", "guitar stand",
    ),
    "plan": ("basic", "family", "premium", "student", "business"),
    "app": ("photo", "notes", "fitness", "travel", "recipe", "calendar"),
    "screen": ("settings", "home", "search", "profile", "summary"),
    "device": ("tablet", "laptop", "Android phone", "iPhone", "work computer"),
    "name": ("Ana Silva", "Tom Becker", "Mei Lin", "Omar Haddad", "Julia Novak", "Sam Okoye", "Lena Fischer", "Raj Patel"),
    "street": ("12 Mill Lane", "7 Harbour Road", "48 Church Street", "3 Orchard Close", "91 Station Road"),
}  # fmt: skip
_CYCLE = ("", "", "", "", *_RULED, *_ADDED)


def draw(rng: Random, index: int) -> dict[str, str]:
    """Write a message; every twelve in a row show each house rule once, in their own order."""
    order = list(_CYCLE)
    Random(f"triage {index // len(_CYCLE)}").shuffle(order)
    rule = order[index % len(_CYCLE)]
    body = pick(rng, _RULED[rule]) if rule in _RULED else pick(rng, _PLAIN[pick(rng, tuple(_PLAIN))])
    parts = [
        pick(rng, _OPENINGS),
        body,
        pick(rng, _ADDED[rule]) if rule in _ADDED else "",
        pick(rng, _CLOSINGS),
    ]
    words = {kind: pick(rng, choices) for kind, choices in _WORDS.items()}
    words |= {"small": str(rng.randint(9, 480)), "big": str(rng.randint(510, 2400))}
    return {"message": " ".join(part for part in parts if part).format(**words)}


FAMILY = Family(
    name="triage",
    description="Sort simulated support messages into six labels; eight hidden house rules decide the hard ones.",
    signature=f"message -> label: Literal[{', '.join(map(repr, LABELS))}]",
    instructions="Sort the support message into the right label.",
    inputs=("message",),
    output="label",
    skills=_SKILLS,
    draw=draw,
    solve=solve,
)
