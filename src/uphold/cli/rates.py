"""Measurements as rows of a table: value, n with what was not scored, interval."""

from __future__ import annotations

from uphold.core.records import Measurement

Row = tuple[str, str, str, str]


def head(title: str, what: str = "samples") -> Row:
    return title, "share", what, "95% interval"


def row(name: str, m: Measurement) -> Row:
    """(name, value, n, interval); 'not measured' where there is no value, signs on differences."""
    if m.value is None:
        return name, "not measured", f"n={m.n_asked}", ""
    sign = "+" if m.unit == "difference" else ""
    unscored = f", {m.n_asked - m.n_scored} unscored" if m.n_scored < m.n_asked else ""
    interval = f"{m.interval[0]:{sign}.3f} to {m.interval[1]:{sign}.3f}" if m.interval else ""
    return name, f"{m.value:{sign}.3f}", f"n={m.n_asked}{unscored}", interval
