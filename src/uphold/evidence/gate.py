"""The gate: holds the ledger's numbers to a policy and says pass, fail or insufficient evidence, with reasons.

Reads ledger entries and nothing live. One rule is judged like this, at the bad end of its bound:

    nothing recorded, or nothing scored, or fewer than min_n asked     insufficient evidence
    the value misses the bound, unscored samples counted as bad        fail
    the whole interval misses it                                       fail
    fewer than min_n scored, or no interval to judge by                insufficient evidence
    the interval straddles the bound                                   insufficient evidence
    else                                                               pass

A policy fails when any rule fails, passes when all pass, and is insufficient evidence otherwise. A judge that leaves bad samples
unscored therefore gains nothing by it. A damaged ledger fails. Left out: freshness, signatures, escalation levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from uphold.core import stats
from uphold.core.config import Located
from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.records import Measurement, Record
from uphold.evidence.entry import Entry, Key, name_of
from uphold.evidence.format import count, describe, number
from uphold.evidence.ledger import Ledger
from uphold.evidence.policy import Policy, Rule, load_policy
from uphold.evidence.verify import verify

Verdict = Literal["pass", "fail", "insufficient evidence"]

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "insufficient evidence": 2}
OPENINGS: dict[Verdict, str] = {"pass": "Met", "fail": "Not met", "insufficient evidence": "Not shown"}


class Finding(Record):
    """What the gate found about one rule.

    asks: the policy's own words; found: what the evidence says to that; evidence: hash of the ledger entry judged; missing: what
    would be needed.
    """

    rule: str
    verdict: Verdict
    asks: str
    found: str
    evidence: str | None = None
    missing: str | None = None

    @property
    def reason(self) -> str:
        """'Met: what was asked. What was found.'"""
        return f"{OPENINGS[self.verdict]}: {self.asks} {self.found}"


class Decision(Record):
    """A verdict and everything it rests on. evidence: hashes of the ledger entries judged; missing: what was not there."""

    verdict: Verdict
    reasons: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    policy: Policy
    policy_digest: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def decide_run(run: str | Path, policy: str | Path) -> Decision:
    """Judge a run folder by a policy file (or a shipped policy's name). A damaged ledger fails, whatever its numbers say."""
    loaded, located = load_policy(policy)
    found = verify(run)
    if not found.ok:
        reasons = tuple(f"The ledger is damaged: {_place(p.line)}{p.what}." for p in found.problems)
        return Decision(verdict="fail", reasons=reasons, policy=loaded, policy_digest=loaded.digest)
    return decide(loaded, Ledger(run).current(), located)


def _place(line: int | None) -> str:
    return f"line {line} " if line is not None else ""


def decide(policy: Policy, current: Mapping[Key, Entry], located: Located | None = None) -> Decision:
    """Judge the entries that count now (`Ledger.current()`). located: the policy's lines, for messages.

    Raises ConfigError when a rule asks of a share what no share can be.
    """
    findings = tuple(_judge(rule, current, _where(located, i)) for i, rule in enumerate(policy.rules))
    verdicts = [finding.verdict for finding in findings]
    verdict: Verdict = (
        "fail" if "fail" in verdicts else "pass" if set(verdicts) == {"pass"} else "insufficient evidence"
    )
    order = {"fail": 0, "insufficient evidence": 1, "pass": 2}
    return Decision(
        verdict=verdict,
        reasons=tuple(f.reason for f in sorted(findings, key=lambda f: order[f.verdict])),
        evidence=tuple(dict.fromkeys(f.evidence for f in findings if f.evidence)),
        missing=tuple(f.missing for f in findings if f.missing),
        findings=findings,
        policy=policy,
        policy_digest=policy.digest,
    )


def record(decision: Decision, ledger: Ledger) -> str:
    """Write a decision into the ledger, where the card finds it; returns the entry's hash. The same decision is written once."""
    return ledger.put("decision", decision.policy.name, decision.model_dump(mode="json"))


def _where(located: Located | None, i: int) -> str:
    return f"{located.at('rules', i)}: " if located else ""


def _judge(rule: Rule, current: Mapping[Key, Entry], where: str) -> Finding:
    name = name_of((rule.measured, tuple(sorted(rule.by.items())), ""))
    found = _matching(rule, current)
    if not found:
        hint = _hint(rule, current)
        return Finding(
            rule=name,
            verdict="insufficient evidence",
            asks=rule.reason,
            found=f"No measurement of {name} is in the ledger. {hint}",
            missing=f"{where}{name}: not in the ledger. {hint}",
        )
    if len(found) > 1:
        roles = ", ".join(sorted(repr(entry.key[2]) for entry in found))
        raise ConfigError(f"{where}{name} was measured of several subjects ({roles}). Give each its own metric name.")
    entry = found[0]
    _check_possible(rule, entry.measurement, f"{where}{name}")
    bounds = [
        _judge_bound(rule, entry.measurement, is_upper)
        for is_upper in (True, False)
        if _bound(rule, is_upper) is not None
    ]
    verdict, why = min(bounds, key=lambda found: ("fail", "insufficient evidence", "pass").index(found[0]))
    return Finding(
        rule=name,
        verdict=verdict,
        asks=rule.reason,
        found=f"{name} is {describe(entry.measurement)}. {why}",
        evidence=entry.hash,
        missing=f"{name}: {why}" if verdict == "insufficient evidence" else None,
    )


def _matching(rule: Rule, current: Mapping[Key, Entry]) -> list[Entry]:
    slice_ = tuple(sorted(rule.by.items()))
    return [entry for (metric, by, _), entry in current.items() if metric == rule.measured and by == slice_]


def _hint(rule: Rule, current: Mapping[Key, Entry]) -> str:
    """What is recorded instead: other slices of this metric, or metrics with a like name."""
    slices = sorted({by for metric, by, _ in current if metric == rule.measured})
    if slices:
        shown = "; ".join(", ".join(f"{k}={v}" for k, v in by) or "all" for by in slices[:8])
        return f"Recorded slices of it: {shown}{'; ...' if len(slices) > 8 else ''}."
    return did_you_mean(rule.measured, {metric for metric, _, _ in current})


def _bound(rule: Rule, is_upper: bool) -> float | None:
    return rule.at_most if is_upper else rule.at_least


def _check_possible(rule: Rule, m: Measurement, where: str) -> None:
    """Refuse bounds that nothing can meet, and bounds that everything meets: a share written as per cent, most often."""
    limits = {"share": (0.0, 1.0), "difference": (-1.0, 1.0)}.get(m.unit)
    if limits is None:
        return
    low, high = limits
    kind = f"a {m.unit} lies between {low:g} and {high:g}"
    for word, bound, hardest in (("at_most", rule.at_most, low), ("at_least", rule.at_least, high)):
        if bound is None:
            continue
        is_beyond = bound < low if word == "at_most" else bound > high
        is_empty = bound >= high if word == "at_most" else bound <= low
        if is_beyond:
            raise ConfigError(f"{where}: {word} {bound:g} can never be met: {kind}.")
        if is_empty:
            raise ConfigError(f"{where}: {word} {bound:g} asks nothing: {kind}. Write 8% as 0.08.")
        if bound == hardest and rule.judge == "worst_case":
            raise ConfigError(
                f"{where}: {word} {bound:g} can never be met in the worst case: no number of samples proves a {m.unit} of exactly "
                f"{bound:g}. Allow a little, or judge the value alone with `judge: point`."
            )


OPEN: Verdict = "insufficient evidence"


def _judge_bound(rule: Rule, m: Measurement, is_upper: bool) -> tuple[Verdict, str]:
    """The verdict on one bound, and why, in a sentence."""
    if m.n_scored == 0:
        return OPEN, f"None of {count(m.n_asked)} samples was scored."
    if m.n_asked < rule.min_n:
        return OPEN, f"{count(m.n_asked)} samples are too few: the policy asks for {count(rule.min_n)}."
    value, interval = _adverse(m, is_upper)
    if value is None:
        return OPEN, f"{_unscored(m)}, and the record does not say how bad they could be."
    return _hold(rule, m, is_upper, value, interval)


def _hold(
    rule: Rule, m: Measurement, is_upper: bool, value: float, interval: tuple[float, float] | None
) -> tuple[Verdict, str]:
    """As `_judge_bound`, of a value and an interval in which unscored samples already count as bad."""
    bound = _bound(rule, is_upper)
    assert bound is not None
    limit = f"the limit of {'at most' if is_upper else 'at least'} {number(bound, m.unit)}"
    counted = f" ({_unscored(m)}, counted as bad)" if m.n_scored < m.n_asked else ""

    def is_met(x: float) -> bool:
        return x <= bound if is_upper else x >= bound

    if not is_met(value):
        return "fail", f"At {number(value, m.unit)}{counted} it misses {limit}."
    good, bad = (0, 1) if is_upper else (1, 0)
    if rule.judge == "worst_case" and interval is not None and not is_met(interval[good]):
        return "fail", f"Its whole interval misses {limit}."
    if m.n_scored < rule.min_n:
        return OPEN, f"{_unscored(m)}: that leaves fewer than the {count(rule.min_n)} the policy asks for."
    if rule.judge == "point":
        return "pass", f"The value{counted} is within {limit}."
    if interval is None:
        return OPEN, "It has no interval to judge by; `judge: point` in the policy would judge the value alone."
    end = f"At worst it is {number(interval[bad], m.unit)}{counted}"
    if not is_met(interval[bad]):
        return OPEN, f"{end}, beyond {limit}{_samples_needed(m, value, bound, is_upper)}."
    return "pass", f"{end}, within {limit}."


def _unscored(m: Measurement) -> str:
    return f"{count(m.n_asked - m.n_scored)} of {count(m.n_asked)} unscored"


def _adverse(m: Measurement, is_upper: bool) -> tuple[float | None, tuple[float, float] | None]:
    """(value, interval) with every unscored sample counted against the bound; (None, None) when the record cannot say.

    The record keeps the case where unscored samples come out bad for the metric. A bound on its good side (at most, of something
    that is better when higher) can only be judged when nothing is unscored.
    """
    if m.n_scored == m.n_asked:
        return m.value, m.interval
    is_bad_side = is_upper != m.higher_is_better
    return (m.worst, m.worst_interval) if is_bad_side else (None, None)


def _samples_needed(m: Measurement, value: float, bound: float, is_upper: bool) -> str:
    """'; about 900 samples would decide at this rate' for a share of independent samples; '' where that cannot be said."""
    if m.unit != "share" or value == bound or m.interval_method != "wilson":
        return ""
    low, high = m.n_asked, m.n_asked
    while high <= 10_000_000:
        found = stats.wilson(round(value * high), high, m.level)
        if (found.high <= bound) if is_upper else (found.low >= bound):
            break
        low, high = high, high * 2
    else:
        return ""
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        found = stats.wilson(round(value * middle), middle, m.level)
        low, high = (low, middle) if ((found.high <= bound) if is_upper else (found.low >= bound)) else (middle, high)
    return f"; at this rate about {count(_round_up(high))} samples would decide"


def _round_up(n: int) -> int:
    """Up to two significant digits: 1,234 becomes 1,300."""
    step = 10 ** max(0, len(str(n)) - 2)
    return -(-n // step) * step
