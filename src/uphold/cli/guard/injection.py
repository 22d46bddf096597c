"""`uphold guard scan` and `uphold guard injection`: find instructions hidden in documents, and train what finds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit, table

DETECTOR = "builtin:injection"


def scan(
    documents: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Text files to scan; without any, stdin.")
    ] = None,
    guard: Annotated[str, typer.Option(help="The detector: a folder, or builtin:injection.")] = DETECTOR,
    as_json: Json = False,
) -> None:
    """Look for instructions to an assistant inside text that should be data: mail, web pages, tool results, files.

    \b
    uphold guard scan mail.txt page.html
    curl -s https://example.org | uphold guard scan --json

    One line per document: score, whether it is flagged, and the characters of the sentence that scored highest; the text itself is
    not printed. Exit code 0 whatever was flagged.
    """
    detector = _detector(guard)
    found = [_scanned(detector, name, text) for name, text in _texts(documents or [])]
    result = {"guard": detector.identity(), "thresholds": detector.thresholds, "documents": found}
    rows = [("document", "score", "", "sentence")]
    rows += [
        (d["name"], f"{d['score']:.4f}", "flagged" if d["flagged"] else "-", f"{d['start']}-{d['end']}") for d in found
    ]
    emit(result, as_json, table(rows))


def _detector(where: str) -> Any:
    from uphold.core.errors import ConfigError
    from uphold.guard import Guard
    from uphold.guard.document import DocumentGuard

    guard = Guard.load(where)
    if not isinstance(guard, DocumentGuard):
        raise ConfigError(
            f"{where}: is no document guard, so it cannot say where. Score whole texts with: uphold guard score"
        )
    return guard


def _texts(documents: list[Path]) -> list[tuple[str, str]]:
    from uphold.core.errors import DataError

    if not documents:
        return [("stdin", sys.stdin.buffer.read().decode("utf-8", "replace"))]
    try:
        return [(str(path), path.read_bytes().decode("utf-8", "replace")) for path in documents]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot read: {error.strerror or error}.") from error


def _scanned(detector: Any, name: str, text: str) -> dict[str, Any]:
    from uphold.guard.base import prompt

    [verdict] = detector.score([prompt(text)])
    spans = detector.spans(text)
    top = max(spans, key=lambda span: span.score, default=None)
    return {
        "name": name,
        "score": verdict.score,
        "flagged": verdict.flagged,
        "start": top.start if top else 0,
        "end": top.end if top else 0,
        "spans": [span._asdict() for span in spans if span.flagged],
    }


def injection(
    out: Annotated[Path, typer.Option(help="Folder for the detector.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="Documents of your own: prompt (the text), label harmful or benign.")
    ] = None,
    corpora: Annotated[Path | None, typer.Option(help="Folder of the public corpora that add breadth.")] = None,
    base: Annotated[str, typer.Option(help="The encoder guard that the detector reads with.")] = "builtin:assistant",
    fpr_budget: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Share of clean documents that may be flagged.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the generated documents.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a prompt-injection detector on generated documents, your own, and public corpora where they are.

    \b
    uphold guard injection --out detector
    uphold guard injection --data documents.jsonl --corpora ../shared/data --out detector

    A harmful row is the injected text itself or a short document around it; benign rows are clean documents.
    """
    from uphold.core.errors import ConfigError
    from uphold.data.files import read_prompts
    from uphold.guard.injection import train_injection

    if (out / "guard.json").exists():
        raise ConfigError(f"{out}: holds a guard already. Choose another --out, or remove that folder.")
    own = read_prompts(data).samples if data else []
    trained = train_injection(corpora=corpora, own=own, base=base, budget=fpr_budget, seed=seed)
    trained.guard.save(out)
    about = trained.guard.about
    threshold = about["thresholds"]["input"]
    result = {"out": str(out), "guard": trained.guard.identity(), "about": about, "validation_auroc": trained.quality}
    lines = [
        f"learned from {about['counts']['orders']} orders and {about['counts']['sentences']} harmless sentences",
        f"chosen on {about['counts']['held_out']} documents: AUROC {trained.quality[trained.strength]:.3f}",
        f"threshold {threshold['value']:.4f}, {'certified' if threshold['is_certified'] else 'not certified'} "
        f"for {100 * fpr_budget:g}% of clean documents like these",
        f"written {out}    next: uphold guard scan --guard {out} FILE",
    ]
    emit(result, as_json, "\n".join(lines))


COMMANDS = {"scan": scan, "injection": injection}
