"""`uphold data`: make, transform, thin out and describe prompts. The work is done in `uphold.data`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uphold.cli import data_synth
from uphold.cli.common import Json, emit

app = typer.Typer(help="Make, transform, thin out and describe prompts.", no_args_is_help=True)
app.command("synth")(data_synth.command)


@app.command()
def transform(
    name: Annotated[str, typer.Argument(help="A transform, or several joined with +: the first is applied first.")],
    file: Annotated[Path | None, typer.Argument(help="Texts, one a line; standard input when left out.")] = None,
    seed: Annotated[int, typer.Option(help="Which phrasings and draws; equal seeds give equal texts.")] = 0,
    inverse: Annotated[bool, typer.Option("--inverse", help="Undo the transform instead.")] = False,
    as_json: Json = False,
) -> None:
    """Put every line through a transform. With --json, results with line breaks stay whole.

    \b
    echo "how do i open a jar?" | uphold data transform roleplay
    uphold data transform rot13+story prompts.txt --seed 3
    uphold data transform base64 --inverse coded.txt
    uphold list transforms
    """
    from uphold.core.errors import ConfigError
    from uphold.data.transforms import apply, compose

    chosen = compose(name)
    if inverse and chosen.inverse is None:
        raise ConfigError(f"transform {name!r} has no inverse: what it changes is lost. See docs/transforms.md")
    undo = chosen.inverse if inverse else None
    texts = [undo(line) if undo else apply(name, line, seed) for line in _lines(file)]
    emit({"transform": chosen.name, "inverse": inverse, "seed": seed, "texts": texts}, as_json, "\n".join(texts))


def _lines(file: Path | None) -> list[str]:
    """The lines of the file or of standard input, without their ends. Raises DataError when they are not UTF-8."""
    from uphold.core.errors import DataError
    from uphold.core.files import read_text

    if file is not None:
        text = read_text(file)
    else:
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"standard input: not UTF-8 at byte {error.start}. Convert it first.") from None
    return text.removesuffix("\n").split("\n") if text else []


@app.command()
def stats(
    name: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A JSONL or CSV file, or builtin:assistant-corpus.")],
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Jaccard similarity of word triples from which rows repeat.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(help="Seed of the samples drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Describe a set of prompts: counts, balance of the clauses, distinct n-grams, near-duplicates, nearest neighbours.

    \b
    uphold data stats builtin:assistant-corpus
    uphold data stats made/rows.jsonl --json
    """
    from uphold.core.errors import DataError
    from uphold.data import assistant
    from uphold.data.datasheet import as_text
    from uphold.data.report import describe
    from uphold.data.rows import read

    rows = assistant.load() if name == assistant.NAME else list(read(name))
    if not rows:
        raise DataError(f"{name}: holds no rows. Give one JSON object or CSV row per prompt.")
    report = describe(rows, name, threshold=threshold, seed=seed)
    emit(report, as_json, as_text(report))


@app.command()
def dedupe(
    file: Annotated[Path, typer.Argument(help="A JSONL or CSV file (also .gz) with prompts.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Where the rows that stay are written.")],
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Jaccard similarity of word triples from which rows repeat.")
    ] = 0.8,
    as_json: Json = False,
) -> None:
    """Leave out rows whose prompt nearly repeats an earlier one. The first of each stays, as it was.

    \b
    uphold data dedupe prompts.jsonl --out distinct.jsonl
    uphold data dedupe prompts.csv.gz --out distinct.jsonl --threshold 0.6 --json
    """
    from uphold.core.errors import ConfigError
    from uphold.core.files import write_jsonl
    from uphold.data.dedupe import without_near_duplicates
    from uphold.data.files import read_rows
    from uphold.data.rows import parse

    if out.exists():
        raise ConfigError(f"{out}: already there. Choose another name for --out.")
    texts = ((line, row, parse(row, f"{file}:{line}").asked) for line, row in read_rows(file))
    repeats: list[dict[str, object]] = []
    n_kept = write_jsonl(out, without_near_duplicates(texts, threshold, repeats))
    result = {"file": file, "out": out, "threshold": threshold, "rows": n_kept + len(repeats), "kept": n_kept}
    share = f"{len(repeats)} near-duplicates at Jaccard {threshold:g} left out"
    emit({**result, "repeats": repeats}, as_json, f"kept {n_kept} of {result['rows']} rows, {share}\nwritten {out}")
