"""What a sentence of a rule orders or forbids, read by rules: words, stems, sentences, polarity, and sets that are alike.

Text goes in from clauses; `lint.py`, `diff.py` and `defects.py` compare what comes out. Deliberately shallow (no parser, no
model): it reads the main clause of each sentence, counts what negates, and treats the remaining content words as the act. English only.
Sets alike are found with prefix filtering (Bayardo et al. 2007, "Scaling up all pairs similarity search").
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_PARTS = re.compile(r"(?<=[.;!?])\s+|,?\s+(?:but|however|instead)\s+", re.IGNORECASE)

STOPWORDS = _set(
    """a an the this that these those any all each every some such other others another own same more most less only just also
    and or nor so then than as at by for from in into of off on onto out over per to up upon with about
    between during through under until while when where whenever wherever which who whom whose what why how if unless
    i you he she it we they me him her us them my your his its our their is are was were be been being am do does did done
    have has had having can could will would shall should must may might need ought there here very too both either
    anyone anybody someone somebody people person always ever"""
)
_SUBJECTS = _set("assistant model ai system agent bot reply replies answer response user users")
_NEGATIONS = _set("never not cannot no")
_NEGATIVE_VERBS = _set(
    """refuse decline avoid refrain withhold forbid prohibit ban stop reject deny omit hide conceal
    forbidden prohibited banned"""
)
_NOT_NEGATING_NO = _set("longer matter doubt more less reason")
_SUBORDINATE = _set(
    "who which that when whenever if unless because while where whether until although though since once whose"
)
_LONGEST_OPENING = 30  # words: beyond that the comma belongs to something else
_CONDITION = re.compile(r"\b(?:if|when|whenever|unless|once|while|where)\b", re.IGNORECASE)
_EXCEPTIONS = _set("unless without except until outside")
_LEADING = _SUBORDINATE | _set("for in with on as after before under during")
_TELLING = _set(
    """tell say state reveal disclose share show provide give supply offer explain describe mention teach print name quote
    list"""
)
_NOT_OF_THE_ACT = STOPWORDS | _SUBJECTS | _EXCEPTIONS | _NEGATIONS | _NEGATIVE_VERBS
_MODAL_STRENGTH = {
    **dict.fromkeys(("must", "never", "always", "shall", "cannot"), 2),
    **dict.fromkeys(("should", "ought", "avoid"), 1),
    **dict.fromkeys(("may", "might", "can"), 0),
}


@dataclass(frozen=True)
class Directive:
    """One sentence of a rule: what it is about, and whether it speaks against it.

    act: stems of the content words of its main clause. condition: those of what stands after if, when and the like, or before the
    comma of an opening such as 'In a school, ...'. exceptions: words such as 'unless' and 'without', which narrow what is ordered.
    """

    text: str
    act: frozenset[str]
    condition: frozenset[str]
    is_negative: bool
    exceptions: frozenset[str]


def words(text: str) -> list[str]:
    """Words in lower case, in order; "don't" gives 'do', 'not'."""
    found = []
    for word in _WORD.findall(text.replace("’", "'").lower()):
        if word.endswith("n't"):
            found += ["can" if word == "can't" else "will" if word == "won't" else word[:-3], "not"]
        else:
            found.append(word.removesuffix("'s"))
    return found


def stem(word: str) -> str:
    """A word without its commonest English endings: enough for 'reveals', 'revealed' and 'revealing' to meet."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def content(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning, negations included: 'never tell' and 'always tell' differ."""
    return frozenset(stem(word) for word in words(text) if word in _NEGATIONS or word not in STOPWORDS)


def directives(text: str) -> list[Directive]:
    """Every sentence of a rule, and both sides of a 'but', as a directive; sentences without content are left out."""
    found = []
    for part in _PARTS.split(text):
        main, condition = _parted(part)
        act = _stems(main)
        if act:
            exceptions = _EXCEPTIONS.intersection(words(part))
            found.append(Directive(part.strip(), act, _stems(condition), _is_negative(main), exceptions))
    return found


def _parted(sentence: str) -> tuple[str, str]:
    """(main clause, conditions) of a sentence: an opening condition up to its comma, and what follows a later 'if' or 'when'."""
    first = next(iter(words(sentence)), "")
    before, comma, after = sentence.partition(",")
    opening = ""
    if first in _LEADING and comma and len(words(before)) <= _LONGEST_OPENING:
        opening, sentence = before, after
    later = _CONDITION.search(sentence)
    if later is None or not words(sentence[: later.start()]):
        return sentence, opening
    return sentence[: later.start()], f"{opening} {sentence[later.start() :]}"


def _stems(text: str) -> frozenset[str]:
    return frozenset(_act_word(word) for word in words(text) if _counts(word))


def _counts(word: str) -> bool:
    return word not in _NOT_OF_THE_ACT


def _act_word(word: str) -> str:
    return "tell" if word in _TELLING or stem(word) in _TELLING else stem(word)


def _is_negative(main: str) -> bool:
    """Whether a main clause negates an odd number of times: 'never refuse to help' orders help."""
    found = words(main)
    n = 0
    for i, word in enumerate(found):
        following = found[i + 1] if i + 1 < len(found) else ""
        if word in _SUBORDINATE:
            break
        if word == "no":
            n += bool(following) and following not in _NOT_NEGATING_NO
        elif word == "not":
            n += following != "only"
        else:
            n += word in _NEGATIONS or word in _NEGATIVE_VERBS
    return n % 2 == 1


def strength(text: str) -> int | None:
    """2 for must, never, always; 1 for should, avoid; 0 for may, can: of the strongest such word. None without any."""
    found = [_MODAL_STRENGTH[word] for word in words(text) if word in _MODAL_STRENGTH]
    return max(found, default=None)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared members over all members, in [0, 1]; 0 when both are empty."""
    union = len(a | b)
    return len(a & b) / union if union else 0.0


def without_common(sets: Sequence[frozenset[str]], share: float = 0.2, least: int = 20) -> list[frozenset[str]]:
    """The sets without members that more than `share` of them hold. Fewer than `least` sets are left as they are."""
    if len(sets) < least:
        return list(sets)
    counts = Counter(member for one in sets for member in one)
    common = {member for member, n in counts.items() if n > share * len(sets)}
    return [one - common for one in sets]


def similar_pairs(sets: Sequence[frozenset[str]], threshold: float) -> Iterator[tuple[int, int, float]]:
    """(i, j, jaccard) with i < j for every pair at or above `threshold`, in (0, 1]. Empty sets are like nothing.

    Two sets at Jaccard t must share one of their rarest |A| - ceil(t |A|) + 1 members, so only those are indexed.
    """
    counts = Counter(member for one in sets for member in one)
    index: dict[str, list[int]] = defaultdict(list)
    for j, one in enumerate(sets):
        ordered = sorted(one, key=lambda member: (counts[member], member))
        keep = len(ordered) - _at_least(threshold * len(ordered)) + 1
        near: set[int] = set()
        for member in ordered[:keep]:
            near.update(index[member])
            index[member].append(j)
        for i in sorted(near):
            alike = jaccard(sets[i], one)
            if alike >= threshold:
                yield i, j, alike


def _at_least(x: float) -> int:
    whole = int(x)
    return whole if x - whole < 1e-9 else whole + 1


def share_of_smaller(a: Iterable[str], b: Iterable[str]) -> float:
    """Shared members over the size of the smaller set, in [0, 1]; 0 when one is empty."""
    a, b = frozenset(a), frozenset(b)
    smaller = min(len(a), len(b))
    return len(a & b) / smaller if smaller else 0.0
