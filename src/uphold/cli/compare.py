"""`uphold compare RUN RUN ...`: releases, vendors or fine-tunes side by side, with what the noise allows to be said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit, warn


def command(
    runs: Annotated[
        list[str], typer.Argument(help="Run folders, RUN:SYSTEM, or baseline files; the first is the baseline.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Another of the runs as the baseline.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Only metrics like this: 'over_*'. May be repeated.", show_default=False)
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also each slice: clause, family, category, task. May be repeated.", show_default=False),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How much worse is acceptable: 0.02 is two points of a share. Asks for proof.",
            show_default=False,
        ),
    ] = None,
    fdr: Annotated[float, typer.Option(help="False alarms to allow among the differences found.")] = 0.05,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare although this differs: suite, judge, data, constitution. May be repeated.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write compare.json, .html, .md, .csv and the heat map here.", show_default=False),
    ] = None,
    save_baseline: Annotated[
        Path | None, typer.Option(help="Write the (one) run's numbers into this file instead.", show_default=False)
    ] = None,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit 1 when a metric is worse beyond the noise.")
    ] = False,
    fail_on_insufficient: Annotated[
        bool, typer.Option("--fail-on-insufficient", help="Exit 1 also when the evidence does not suffice to say.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare runs metric by metric: paired differences, their noise, who differs from whom, what is missing.

    \b
    uphold compare runs/release-1 runs/release-2
    uphold compare runs/shop:base runs/shop:aligned runs/shop:guarded --by family
    uphold compare runs/before runs/fine-tuned --margin 0.02 --fail-on-regression
    uphold compare runs/before --save-baseline baseline.json
    uphold compare baseline.json runs/today --out runs/today/compare --json

    Verdicts: worse, better (beyond the noise, false discovery rate --fdr); no difference shown. With --margin: not worse
    (shown to lie within it) or insufficient. Unscored replies count as bad. Runs whose suite, judge, data or constitution
    differ are refused, unless allowed by name.

    Exit codes: 0 compared, 1 worse (only with --fail-on-...), 2 runs that cannot be compared.
    """
    from uphold.core.errors import ConfigError
    from uphold.evidence.compare import Settings, compare
    from uphold.evidence.compare_text import text, warnings

    if save_baseline is not None:
        if len(runs) != 1:
            raise ConfigError(f"--save-baseline takes one run, not {len(runs)}.")
        return _save(runs[0], save_baseline, as_json)
    if not 0 < fdr < 1:
        raise ConfigError(f"--fdr {fdr}: must lie between 0 and 1; 0.05 is usual.")
    settings = Settings(
        metrics=tuple(metric or ()),
        by=tuple(by or ()),
        baseline=baseline,
        margin=margin,
        fdr=fdr,
        allow=tuple(allow or ()),
    )
    found = compare(runs, settings)
    for each in warnings(found) if as_json else ():  # people read them above the table
        warn(each)
    lines = [text(found)]
    result = found.model_dump(mode="json")
    if out is not None:
        from uphold.evidence.compare_page import write_comparison

        written = write_comparison(found, out)
        result["written"] = [str(path) for path in written]
        lines += ["", f"written {', '.join(str(path) for path in written)}"]
    emit(result, as_json, "\n".join(lines))
    is_worse = (fail_on_regression or fail_on_insufficient) and bool(found.worse)
    is_open = fail_on_insufficient and any(d.verdict == "insufficient" for row in found.rows for d in row.deltas)
    raise typer.Exit(1 if is_worse or is_open else 0)


def _save(run: str, path: Path, as_json: bool) -> None:
    from uphold.evidence.compare_subject import save_baseline

    saved = save_baseline(run, path)
    paired = sum(key in saved.items for key in saved.measurements)
    result = {"baseline": str(path), "run": saved.where, "measurements": len(saved.measurements), "with_items": paired}
    emit(
        result,
        as_json,
        f"written {path}: {len(saved.measurements)} measurements, {paired} with their single outcomes\n"
        f"next: uphold compare {path} RUN",
    )
