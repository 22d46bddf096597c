"""`uphold data synth`: requests and replies for every clause, made by a model. The work is done in `uphold.data.synth`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uphold.cli.common import Json, emit

if TYPE_CHECKING:
    from uphold.data.synth import Result


def command(
    constitution: Annotated[str, typer.Argument(help="A constitution file, or the name of a shipped one.")],
    model: Annotated[str, typer.Option("--model", help="Who writes: builtin:clerk, hf:PATH, openai:URL#NAME.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for rows.jsonl, the journal and the summary.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Take the requests from this source; the model only replies.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Who checks the labels. Default: the model that writes.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows of each label for each clause.")] = 20,
    clause: Annotated[
        list[str] | None, typer.Option("--clause", help="Only this clause; may be repeated. Default: all that forbid.")
    ] = None,
    langs: Annotated[str, typer.Option("--langs", help="Codes of languages, separated by commas.")] = "en",
    registers: Annotated[
        str,
        typer.Option("--registers", help="plain, formal, casual, terse, typos, long, expert, emotional. Default: all."),
    ] = "",
    multi_turn: Annotated[float, typer.Option("--multi-turn", min=0, max=1, help="Share of conversations.")] = 0.1,
    twins: Annotated[
        float, typer.Option("--twins", min=0, max=1, help="Share of twins of rows of the other label.")
    ] = 0.2,
    topics: Annotated[int, typer.Option("--topics", min=1, help="Topics of each clause and label.")] = 6,
    subtopics: Annotated[int, typer.Option("--subtopics", min=0, help="Narrower topics of each topic.")] = 4,
    per_ask: Annotated[int, typer.Option("--per-ask", min=1, max=50, help="Requests asked for at once.")] = 5,
    tries: Annotated[int, typer.Option("--tries", min=1, max=20, help="Times that missing rows are asked for.")] = 3,
    no_replies: Annotated[bool, typer.Option("--no-replies", help="Requests alone.")] = False,
    max_calls: Annotated[
        int | None, typer.Option("--max-calls", min=0, help="Stop after this many model calls.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=0, help="Stop after this many tokens, prompts and replies together."),
    ] = None,
    max_failures: Annotated[
        float, typer.Option("--max-failures", help="Stop when more than this share of recent asks gave nothing usable.")
    ] = 0.5,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=5, help="Of the model that writes.")] = 0.8,
    list_tokens: Annotated[
        int, typer.Option("--list-tokens", min=1, help="Longest list of requests, in tokens.")
    ] = 768,
    reply_tokens: Annotated[int, typer.Option("--reply-tokens", min=1, help="Longest reply, in tokens.")] = 512,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.01, max=1, help="Jaccard similarity from which rows repeat.")
    ] = 0.8,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Make labelled requests and replies for every clause. The same command goes on where a run was interrupted.

    \b
    uphold data synth storefront --source builtin:storefront --model builtin:clerk --out made
    uphold data synth assistant --model openai:http://127.0.0.1:8000/v1#NAME --langs en,es,de --rows 50 --out made
    uphold data synth my.yaml --model hf:PATH --judge openai:URL#NAME --max-calls 2000 --out made

    Exit codes: 0 done (some rows may be missing: it says which), 1 stopped early, 2 misuse.
    """
    from pydantic import ValidationError

    from uphold import models
    from uphold.constitution import Constitution
    from uphold.core import registry
    from uphold.core.errors import ConfigError
    from uphold.data.synth import Budget, Settings, synthesise

    try:
        settings = Settings(
            rows=rows,
            clauses=tuple(clause or ()),
            languages=_names(langs),
            registers=_names(registers),
            multi_turn=multi_turn,
            twins=twins,
            n_topics=topics,
            n_subtopics=subtopics,
            per_ask=per_ask,
            tries=tries,
            replies=not no_replies,
            threshold=threshold,
            max_failures=max_failures,
            temperature=temperature,
            max_new_tokens=list_tokens,
            reply_tokens=reply_tokens,
            seed=seed,
        )
    except ValidationError as error:
        raise ConfigError(
            "\n".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        ) from None
    writer = models.load(model)
    writer.check()
    checker = models.load(judge) if judge else None
    if checker is not None:
        checker.check()
    result = synthesise(
        Constitution.load(constitution),
        writer,
        out,
        settings,
        judge=checker,
        source=registry.get("source", source, "--source") if source else None,
        source_name=source or "",
        budget=Budget(max_calls=max_calls, max_tokens=max_tokens),
    )
    emit(result, as_json, _text(result))
    if result.stopped:
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _text(result: Result) -> str:
    lines = [f"{result.n_rows} of {result.n_planned} rows ({result.n_calls} calls, {result.n_tokens} tokens)"]
    agreement = next((m for m in result.measurements if not m.by), None)
    if agreement is not None and agreement.value is not None and agreement.interval is not None:
        low, high = agreement.interval
        lines.append(
            f"second judge agrees with the label {agreement.value:.2f} "
            f"(n={agreement.n_scored} of {agreement.n_asked}, {agreement.level:.0%} {agreement.interval_method} {low:.2f}-{high:.2f})"
        )
    for name, counted in (("dropped", result.rejected), ("asks without anything usable", result.failures)):
        if counted:
            lines.append(f"{name}: {', '.join(f'{reason} {n}' for reason, n in counted.items())}")
    lines += [
        f"missing: {one.n} {one.label} {one.form} rows{f' of clause {one.clause}' if one.clause else ''}"
        for one in result.missing
    ]
    if result.stopped:
        lines.append(f"stopped early: {result.stopped}. Mend that and run the same command to go on.")
    lines.append(f"written {result.rows}    next: uphold data stats {result.rows}")
    return "\n".join(lines)
