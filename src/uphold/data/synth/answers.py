"""What a generator's or a judge's answer says: items, conversations, or a label; or in one word why it says nothing.

Reads a `Completion` with `parsing.py`; the word ('error', 'blocked', 'empty', 'refused', 'truncated', 'malformed') is what a run counts.
"""

from __future__ import annotations

from uphold.core.records import Label, Message
from uphold.data.synth.candidate import Candidate, Turns
from uphold.data.synth.filters import is_refusal
from uphold.data.synth.parsing import parse_items, parse_turns
from uphold.models.base import Completion


def problem_of(reply: Completion) -> str:
    """Why a completion holds no text to use: 'error', 'blocked', 'empty', or '' when it does."""
    if reply.text is None:
        return "error"
    if reply.finish_reason == "blocked":
        return "blocked"
    return "" if reply.text.strip() else "empty"


def items(reply: Completion, n: int) -> tuple[list[str], str]:
    """(the items of a reply asked for a list of `n`, '' or why there are none)."""
    problem = problem_of(reply)
    if problem:
        return [], problem
    found = parse_items(reply.text or "", n=n, is_cut=_is_cut(reply))
    if found and not (len(found) == 1 and is_refusal(found[0])):
        return found, ""
    return [], _why_nothing(reply)


def requests(draft: Candidate, reply: Completion) -> tuple[list[Turns], str]:
    """(the requests in a reply, '' or why there are none): conversations for asks of that form, else single turns."""
    if draft.ask.form != "turns":
        found, problem = items(reply, 1 if draft.ask.form == "twin" else draft.ask.n)
        return [(Message(role="user", content=item),) for item in found], problem
    problem = problem_of(reply)
    if problem:
        return [], problem
    turns = parse_turns(reply.text or "", is_cut=_is_cut(reply))
    return ([turns], "") if turns else ([], _why_nothing(reply))


def said_label(reply: Completion) -> Label | None:
    """The label in a judge's answer: its first word that is YES (harmful) or NO; None without one."""
    for word in (reply.text or "").upper().replace("*", " ").replace(".", " ").replace(",", " ").split()[:20]:
        if word in ("YES", "NO"):
            return "harmful" if word == "YES" else "benign"
    return None


def _is_cut(reply: Completion) -> bool:
    return reply.finish_reason == "length"


def _why_nothing(reply: Completion) -> str:
    return "refused" if is_refusal(reply.text or "") else "truncated" if _is_cut(reply) else "malformed"
