"""What failed, in its own words: excerpts from the transcripts, short, and gone when they were redacted.

Takes the excerpts that `card-inputs.json` names and reads their text from the packs when the card is made, so that the inputs hold no
text and a redaction reaches the next card. Sealed transcripts stay sealed: a card is for everybody, whoever holds the key.
`check_card` reads the same text again and compares. Left out: other turns of a conversation than the last question and its reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uphold.core.files import read_lines
from uphold.evidence.entry import Entry
from uphold.evidence.inputs import CardInputs, Excerpt
from uphold.evidence.paths import transcripts_folder
from uphold.evidence.transcripts import Transcript, open_plain

_COMMITMENT = slice(15, 79)  # where a pack's line holds it: {"commitment":"64 hex digits"


@dataclass(frozen=True)
class Failure:
    """An excerpt as it is shown. system: its label; prompt, completion: shortened; completion None: withheld.

    gone: why there is no text ('redacted', 'sealed', 'missing'), '' where there is; redaction: the ledger entry that removed it.
    """

    excerpt: Excerpt
    system: str
    prompt: str
    completion: str | None
    is_shortened: bool = False
    gone: str = ""
    redaction: Entry | None = None


def failures(inputs: CardInputs, run: Path, entries: Sequence[Entry]) -> list[Failure]:
    """Every excerpt of the inputs, in order, with its text as it stands in the run now."""
    wanted = {e.transcript for e in inputs.failures if e.transcript}
    kept = find(run, entries, wanted) if wanted else {}
    redactions = {c: e for e in entries if e.kind == "redaction" for c in e.body["commitments"]}
    return [_failure(inputs, excerpt, kept, redactions) for excerpt in inputs.failures]


def _failure(
    inputs: CardInputs, excerpt: Excerpt, kept: dict[str, Transcript], redactions: dict[str, Entry]
) -> Failure:
    label = next((system.label for system in inputs.systems if system.key == excerpt.system), excerpt.system)
    prompt, completion = excerpt.prompt, excerpt.completion
    if excerpt.transcript:
        found = kept.get(excerpt.transcript)
        if excerpt.transcript in redactions or (found is not None and found.is_redacted):
            return Failure(excerpt, label, "", None, gone="redacted", redaction=redactions.get(excerpt.transcript))
        if found is None or found.is_sealed:
            return Failure(excerpt, label, "", None, gone="missing" if found is None else "sealed")
        prompt, completion = said(found.content)
    texts = (
        shortened(prompt, inputs.excerpt_chars),
        None if completion is None else shortened(completion, inputs.excerpt_chars),
    )
    return Failure(excerpt, label, *texts, is_shortened=texts != (prompt, completion))


def said(content: Any) -> tuple[str, str | None]:
    """(the last thing asked, the reply to it) of a transcript's content; None: there was no reply."""
    turns = content.get("messages") or ()
    asked = next((str(turn.get("content", "")) for turn in reversed(turns) if turn.get("role") == "user"), "")
    completion = content.get("completion")
    return asked, None if completion is None else str(completion)


def shortened(text: str, most: int) -> str:
    """At most `most` characters, with a sign where something was cut."""
    return text if len(text) <= most else f"{text[:most]}…"


def find(run: Path, entries: Iterable[Entry], wanted: set[str]) -> dict[str, Transcript]:
    """The wanted transcripts by commitment, as far as the run's packs hold them. Raises StoreError where one was changed."""
    found: dict[str, Transcript] = {}
    for root in dict.fromkeys(str(e.body["root"]) for e in entries if e.kind == "transcripts"):
        path = transcripts_folder(run) / f"{root}.jsonl"
        if not path.is_file():
            continue
        for number, line in read_lines(path):
            if line[_COMMITMENT] in wanted:
                transcript = open_plain(line, f"{path}:{number}")
                found[transcript.commitment] = transcript
    return found
