"""`uphold constitution coverage`: which clauses a run trained on, attacked and asked about. See `uphold.constitution.coverage`."""

from __future__ import annotations

from typing import Annotated

import typer

from uphold.cli.common import Json, emit, table, warn

_COLUMNS = ("training", "examples", "attacks", "benign", "evaluations", "blocks", "failures", "unscored")


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder that `uphold run --out` wrote.")],
    fail_under: Annotated[
        float,
        typer.Option("--fail-under", min=0.0, max=1.0, help="Exit 1 when fewer of the clauses were tested, 0 to 1."),
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Count for each clause of a run: rows trained on, attacks, benign twins, evaluations, blocks, failures. Names untested clauses.

    \b
    uphold constitution coverage runs/demo
    uphold constitution coverage runs/demo --fail-under 0.9 --json

    Exit codes: 0 done, 1 share of tested clauses under --fail-under, 2 not a run folder.
    """
    from uphold.constitution.coverage import coverage

    found = coverage(run)
    is_under = found.share < fail_under
    n_tested = len(found.clauses) - len(found.untested)
    rows: list[tuple[str, ...]] = [("clause", "modality", *_COLUMNS)]
    rows += [(c.clause, c.modality, *(str(getattr(c, name)) for name in _COLUMNS)) for c in found.clauses]
    lines = [table(rows), f"tested {n_tested} of {len(found.clauses)} clauses ({found.share:.0%})"]
    if found.untested:
        lines.append(f"untested: {', '.join(found.untested)}")
    if found.unattributed:
        lines.append(f"{found.unattributed} rows are about no clause (general questions)")
    if is_under:
        lines.append(f"under the required {fail_under:.0%}")
    for problem in found.unread:
        warn(problem)
    result = {
        **found.model_dump(mode="json"),
        "tested": n_tested,
        "share": found.share,
        "untested": found.untested,
        "fail_under": fail_under,
        "passed": not is_under,
    }
    emit(result, as_json, "\n".join(lines))
    if is_under:
        raise typer.Exit(1)
