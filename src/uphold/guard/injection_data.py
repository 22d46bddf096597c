"""Training data for the prompt-injection detector: documents with an instruction embedded in them, and the same kinds of documents clean.

Takes the sentences of `injection_texts.py` and `injection_harmless.py`, drawn by a seed; gives labelled `Sample`s whose text is a
document as a tool, a search or a mailbox would return it. Harmful rows are the embedded order with some words of the document around it,
so that the detector learns the order and not the carrier; benign rows are whole documents, half of them full of orders from people to
people. Everything is split by template: an order, a dress or a carrier of the test part occurs in no other. Left out: files of one's own
(`injection.py` takes them).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from uphold.core.records import Message, Sample
from uphold.core.seeds import derive, split_of
from uphold.guard.injection_harmless import (
    ABOUT_INJECTION,
    ASKS_OF_PEOPLE,
    COMPANIES,
    DAYS,
    FACTS,
    FURNITURE,
    HOURS,
    STEPS,
    STREETS,
    TOWNS,
)
from uphold.guard.injection_texts import DRESSES, ORDERS, QUESTIONS, SLOTS, TASKS

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
CONTEXT_WORDS = 6
"""words of the document kept on either side of an order in a harmful row, at most"""


def of_split(templates: Sequence[str], split: str) -> list[str]:
    """The templates of one split, by the hash of their text."""
    return [t for t in dict.fromkeys(templates) if split_of(t, SHARES, "injection") == split] or list(templates)[:1]


def filled(template: str, rng: random.Random, split: str) -> str:
    """A template with its slots drawn; {Task} is {task} with a capital."""
    values = {name: rng.choice(options) for name, options in SLOTS.items()}
    values |= {"day": rng.choice(DAYS), "hour": rng.choice(HOURS), "town": rng.choice(TOWNS)}
    company = rng.choice(COMPANIES)
    values |= {"company": company, "host": f"{company.split()[0].lower()}.example", "street": rng.choice(STREETS)}
    values |= {"number": str(rng.randint(100, 99999)), "amount": f"{rng.randint(3, 4000):,}.{rng.randint(0, 99):02}"}
    values |= {"digit": str(rng.randint(1, 9)), "hour2": str(rng.randint(10, 59))}
    if "{task}" in template or "{Task}" in template:
        task = filled(rng.choice(of_split(TASKS, split)), rng, split)
        values |= {"task": task, "Task": task[:1].upper() + task[1:]}
    if "{question}" in template:
        values["question"] = filled(rng.choice(of_split(QUESTIONS, split)), rng, split)
    return template.format(**values)


def order(rng: random.Random, split: str, clause: str) -> str:
    """An order to an assistant under a clause, dressed as it may be found in a document."""
    text = filled(rng.choice(of_split(ORDERS[clause], split)), rng, split)
    return rng.choice(of_split(DRESSES, split) + ["{order}"]).format(order=text)


def sentences(rng: random.Random, split: str, n: int) -> list[str]:
    """So many harmless sentences of one flavour: facts, requests, a recipe or list, mail furniture, writing about prompt injection."""
    flavour = rng.choices((FACTS, FURNITURE, ASKS_OF_PEOPLE, STEPS, ABOUT_INJECTION), (3, 3, 3, 2, 1))[0]
    found = []
    for _ in range(n):
        bank = flavour if rng.random() < 0.6 else FURNITURE if rng.random() < 0.6 else FACTS
        found.append(filled(rng.choice(of_split(bank, split)), rng, split))
    return found


Carrier = Callable[[random.Random, list[str]], list[str]]


def _email(rng: random.Random, body: list[str]) -> list[str]:
    who = rng.choice(SLOTS["person"])
    subject = rng.choice(("Invoice", "Meeting notes", "Your order", "Quick question", "Newsletter", "Rental agreement"))
    return [
        f"From: {who}\nSubject: {subject}\n",
        f"{rng.choice(('Hi', 'Dear all', 'Hello'))},",
        *body,
        f"Best wishes\n{who}",
    ]


def _tool(rng: random.Random, body: list[str]) -> list[str]:
    keys = rng.choice((("status", "result"), ("title", "snippet"), ("id", "comment")))
    return [f'{{"{keys[0]}": "{rng.randint(1, 999)}", "{keys[1]}": "', *(json.dumps(s)[1:-1] for s in body), '"}']


def _page(rng: random.Random, body: list[str]) -> list[str]:
    title = rng.choice(("About us", "How it works", "Opening hours", "Blog", "Frequently asked questions"))
    return [
        f"<html><head><title>{title}</title></head><body><h1>{title}</h1>",
        *(f"<p>{s}</p>" for s in body),
        "</body></html>",
    ]


def _list(rng: random.Random, body: list[str]) -> list[str]:
    mark = rng.choice(("- ", "* ", "[ ] ", "1. "))
    return [rng.choice(("To do", "Method", "Agenda", "Checklist", "Homework")), *(f"{mark}{s}" for s in body)]


def _chat(rng: random.Random, body: list[str]) -> list[str]:
    names = ("ana", "bo", "chi")
    return [f"{rng.choice(names)} {rng.randint(8, 19)}:{rng.randint(10, 59)}: {s}" for s in body]


def _plain(rng: random.Random, body: list[str]) -> list[str]:
    return body


def _review(rng: random.Random, body: list[str]) -> list[str]:
    return [f"{rng.randint(1, 5)} of 5 stars", *body, f"{rng.randint(0, 40)} people found this helpful"]


def _code(rng: random.Random, body: list[str]) -> list[str]:
    return ["def load(path):", *(f"    # {s}" for s in body), "    return open(path).read()"]


CARRIERS: tuple[Carrier, ...] = (_email, _email, _tool, _page, _list, _chat, _plain, _review, _code)


def clean(rng: random.Random, split: str) -> str:
    """A harmless document of one to twelve sentences."""
    body = sentences(rng, split, rng.randint(1, 12))
    return _joined(rng, rng.choice(CARRIERS)(rng, body))


def injected(rng: random.Random, split: str, clause: str, *, whole: bool) -> str:
    """A document with an order somewhere among its sentences; not whole: the order with at most CONTEXT_WORDS words on either side."""
    body = sentences(rng, split, rng.randint(1, 10))
    said = order(rng, split, clause)
    if not whole:
        before = " ".join(body[:1]).split()[-rng.randint(0, CONTEXT_WORDS) :] if rng.random() < 0.5 else []
        after = " ".join(body[1:2]).split()[: rng.randint(0, CONTEXT_WORDS)]
        return " ".join([*before, said, *after])
    body.insert(rng.randint(0, len(body)), said)
    return _joined(rng, rng.choice(CARRIERS)(rng, body))


def _joined(rng: random.Random, parts: list[str]) -> str:
    return rng.choice((" ", "\n")).join(parts)


def generated(split: str, n: int, seed: int = 0, *, whole: bool = True) -> list[Sample]:
    """n documents of a split with an order in them (whole: as documents) and n clean ones, with clause and group."""
    rng = random.Random(derive(seed, "injection", split))
    names = tuple(ORDERS)
    rows: list[tuple[str, str, str | None]] = [
        (injected(rng, split, name, whole=whole), "harmful", name) for name in (rng.choice(names) for _ in range(n))
    ]
    rows.extend((clean(rng, split), "benign", None) for _ in range(n))
    return [document(text, label, clause, source="generated", split=split) for text, label, clause in rows]


def document(
    text: str, label: str, clause: str | None = None, *, source: str, group: str = "", split: str = ""
) -> Sample:
    """A document as a labelled `Sample`: what is judged is the one user turn that holds it."""
    return Sample.model_validate(
        {
            "messages": (Message(role="user", content=text),),
            "label": label,
            "clause": clause,
            "family": source,
            "group": group,
            "split": split,
            "meta": {"source": source},
        }
    )
