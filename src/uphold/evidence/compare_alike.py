"""Are the runs alike in all but what is compared? Apples and oranges are refused, or named loudly.

Takes the measurements that two or more runs share; gives each way in which they were not asked or judged alike: another suite, judge, data
revision or constitution. `compare` refuses such runs unless the user allows that kind by name; what is allowed is still said wherever
the comparison is shown. Other code, another machine or another seed are said too, and never refused: numbers carry their noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.records import Measurement, Record
from uphold.evidence.compare_subject import Name, Subject

Kind = Literal["suite", "judge", "data", "constitution", "seeds", "code", "environment"]
_READ: dict[Kind, Callable[[Measurement], str]] = {
    "suite": lambda m: m.suite,
    "judge": lambda m: m.judge,
    "data": lambda m: m.data,
    "constitution": lambda m: m.subject.get("constitution", ""),
    "seeds": lambda m: ", ".join(map(str, m.seeds)),
    "code": lambda m: m.code,
    "environment": lambda m: m.environment,
}
REFUSED: tuple[Kind, ...] = ("suite", "judge", "data", "constitution")
"""what must be the same, unless allowed"""
_WORDS: dict[Kind, str] = {
    "suite": "they were asked different suites",
    "judge": "they were graded by different judges",
    "data": "they were asked different data revisions",
    "constitution": "they were held to different constitutions",
    "seeds": "they were run with different seeds",
    "code": "they were measured by different versions of Uphold",
    "environment": "they were measured on different machines or packages",
}


class Unlike(Record):
    """One way in which runs differ besides what is compared. values: run -> what it has ('not recorded' where it does not say);
    metrics: where; is_grave: refused unless allowed."""

    kind: Kind
    values: dict[str, str]
    metrics: tuple[str, ...]
    is_grave: bool

    @property
    def sentence(self) -> str:
        """'they were graded by different judges: a has rubric, b has keyword (in attack_success_rate)'."""
        has = ", ".join(f"{run} has {value}" for run, value in self.values.items())
        more = f" and {len(self.metrics) - 2} more" if len(self.metrics) > 2 else ""
        return f"{_WORDS[self.kind]}: {has} (in {', '.join(self.metrics[:2])}{more})"


def unlike(subjects: Sequence[Subject], names: Sequence[Name]) -> list[Unlike]:
    """Every way in which the runs differ in the metrics they share; one record for each kind and set of values."""
    gathered: dict[tuple[Kind, tuple[tuple[str, str], ...]], list[str]] = {}
    for name in names:
        shared = {one.name: one.measurements[name] for one in subjects if name in one.measurements}
        for kind, read in _READ.items():
            values = {run: read(m) for run, m in shared.items()}
            if len(set(values.values())) > 1:
                gathered.setdefault((kind, tuple(values.items())), []).append(name[0])
    return [
        Unlike(
            kind=kind,
            values={run: _short(value) for run, value in values},
            metrics=tuple(dict.fromkeys(metrics)),
            is_grave=kind in REFUSED and all(value for _, value in values),
        )
        for (kind, values), metrics in gathered.items()
    ]


def refuse_unlike(found: Sequence[Unlike], allow: Sequence[str]) -> None:
    """Raise ConfigError, naming every difference, when runs differ in a way that is neither harmless nor allowed."""
    for kind in allow:
        if kind not in REFUSED:
            raise ConfigError(
                f"--allow {kind!r} is nothing that can be allowed to differ. {did_you_mean(kind, REFUSED)}"
            )
    wrong = [one for one in found if one.is_grave and one.kind not in allow]
    if wrong:
        flags = " ".join(f"--allow {kind}" for kind in dict.fromkeys(one.kind for one in wrong))
        lines = "\n".join(f"  {one.sentence}" for one in wrong)
        raise ConfigError(
            f"these runs cannot be compared as they are:\n{lines}\n"
            f"Run them alike, leave those metrics out (--metric), or compare nevertheless, with this said beside the result: {flags}"
        )


def _short(value: str) -> str:
    is_hash = len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    return (value[:12] if is_hash else value) or "not recorded"
