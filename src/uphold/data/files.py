"""Prompts from files a user brings: JSONL or CSV, plain or gzipped, with a `prompt` column.

Gives `Sample`s (or, where a `completion` column is wanted, `Exchange`s) for training and measuring guards and for sending to models.
Other columns read: `label` (harmful/benign, 1/0), `completion`, `expected`, `clause`, `category`, `group`, `lang`, `kind`; the rest is
ignored. Blank prompts are skipped, repeated ones kept once, both counted. Every error names the file and the line. Left out: other
formats, and any download.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from uphold.core.errors import DataError
from uphold.core.files import parse_json
from uphold.core.records import Exchange, Label, Message, Record, Sample
from uphold.core.registry import register
from uphold.core.seeds import derive, split_of, uniform

if TYPE_CHECKING:
    from uphold.constitution import Constitution
    from uphold.data.source import Kind, Split

JSON_LINES, CSV, TSV = (".jsonl", ".ndjson"), ".csv", ".tsv"
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
_LABELS: dict[str, Label] = {
    "harmful": "harmful",
    "unsafe": "harmful",
    "1": "harmful",
    "true": "harmful",
    "benign": "benign",
    "harmless": "benign",
    "safe": "benign",
    "0": "benign",
    "false": "benign",
}
_MAX_FIELD = 1 << 27  # characters in one CSV field


class PromptSet(Record):
    """What files held. rows: those with a prompt or without; n_blank, n_duplicates: skipped ones. by_file: samples kept of each."""

    examples: tuple[Sample | Exchange, ...]
    n_rows: int
    n_blank: int
    n_duplicates: int
    by_file: dict[str, int]

    @property
    def samples(self) -> list[Sample]:
        """The examples that are prompts alone."""
        return [example for example in self.examples if isinstance(example, Sample)]

    def note(self) -> str:
        """'475 of 480 rows (3 blank, 2 repeated)'."""
        return f"{len(self.examples)} of {self.n_rows} rows ({self.n_blank} blank, {self.n_duplicates} repeated)"


def read_prompts(
    paths: Sequence[str | Path],
    label: Label | None = None,
    *,
    completions: bool = False,
    names: Sequence[str] | None = None,
) -> PromptSet:
    """The prompts of several files together.

    label: what all of them are; None: each row says so in its `label` column. completions: rows with a `completion` become Exchanges,
    their label in meta, judged as replies. names: what to call each file in meta (default `file_names`). Raises
    DataError for a file that is missing, empty, not text, in another format, or lacks a column.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise DataError("no files given: name at least one JSONL or CSV file with a 'prompt' column.")
    names = file_names(files) if names is None else names
    found: dict[tuple[str, str], Sample | Exchange] = {}
    n_rows = n_blank = 0
    by_file = dict.fromkeys(names, 0)
    for path, name in zip(files, names, strict=True):
        n_here = n_blank_here = 0
        for line, row in read_rows(path):
            n_here += 1
            prompt = _text(row, "prompt", path, line)
            if not prompt.strip():
                n_blank_here += 1
                continue
            reply = _text(row, "completion", path, line) if completions and row.get("completion") else ""
            if (prompt, reply) not in found:
                by_file[name] += 1
                found[prompt, reply] = _example(row, prompt, reply, label or _label(row, path, line), name, path, line)
        if not n_here:
            raise DataError(f"{path}: holds no rows. Give one JSON object or CSV row per prompt.")
        if n_blank_here == n_here:
            raise DataError(f"{path}: all {n_here} prompts are blank. Put the text into the column 'prompt'.")
        n_rows, n_blank = n_rows + n_here, n_blank + n_blank_here
    return PromptSet(
        examples=tuple(found.values()),
        n_rows=n_rows,
        n_blank=n_blank,
        n_duplicates=n_rows - n_blank - len(found),
        by_file=by_file,
    )


def file_names(paths: Sequence[str | Path]) -> list[str]:
    """What files are called in results: their names, with their folders where two names are the same; never a whole path."""
    files = [Path(path) for path in paths]
    plain = [path.name for path in files]
    if len(set(plain)) == len(plain):
        return plain
    return [f"{path.parent.name}/{path.name}" for path in files]


def _example(
    row: Mapping[str, Any], prompt: str, reply: str, label: Label, name: str, path: Path, line: int
) -> Sample | Exchange:
    messages = (Message(role="user", content=prompt),)
    clause = _text(row, "clause", path, line) or None
    told = {column: text for column in ("lang", "kind") if (text := _text(row, column, path, line))}
    about: dict[str, Any] = {"source": name, "line": line} | told
    if reply:
        meta = {"label": label, "group": _text(row, "group", path, line)} | about
        return Exchange(messages=messages, completion=reply, clause=clause, meta=meta)
    return Sample.model_validate(
        {
            "messages": messages,
            "label": label,
            "clause": clause,
            "category": _text(row, "category", path, line) or None,
            "group": _text(row, "group", path, line),
            "expected": _text(row, "expected", path, line) or None,
            "meta": about,
        }
    )


def _label(row: Mapping[str, Any], path: Path, line: int) -> Label:
    if "label" not in row:
        raise DataError(
            f"{path}:{line}: no column 'label'. {_columns(row)} Say which rows are harmful and which benign."
        )
    return label_named(row["label"], f"{path}:{line}: label")


def label_named(value: Any, where: str) -> Label:
    """The label a file means: by name, or 1 for harmful and 0 for benign. Raises DataError at `where`."""
    name = str(int(value) if isinstance(value, bool) or value in (0.0, 1.0) else value).strip().lower()
    if name not in _LABELS:
        raise DataError(f"{where} {value!r} is neither harmful nor benign. Write harmful or 1, benign or 0.")
    return _LABELS[name]


def _text(row: Mapping[str, Any], column: str, path: Path, line: int) -> str:
    """The text in a column, '' when it has none. A prompt must have its column and be text; other columns may be absent."""
    if column == "prompt" and "prompt" not in row:
        raise DataError(f"{path}:{line}: no column 'prompt'. {_columns(row)} Rename the one that holds the prompts.")
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        if column == "prompt":
            raise DataError(f"{path}:{line}: the prompt is {type(value).__name__}, not text. Write it as a string.")
        value = str(value)
    return well_formed(value)


def _columns(row: Mapping[str, Any]) -> str:
    return f"Columns found: {', '.join(str(key) for key in row if key is not None) or 'none'}."


def well_formed(text: str) -> str:
    """The text with unpaired surrogates (which are no characters, but which JSON can spell) as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, row) of a JSONL, CSV or TSV file, gzipped when its name ends in .gz. Raises DataError with file and line."""
    path = Path(path)
    suffix = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix not in (*JSON_LINES, CSV, TSV):
        raise DataError(f"{path}: cannot tell its format by its name. Known: .jsonl, .csv, .tsv, each also with .gz.")
    with _opened(path) as file:
        yield from (
            _json_rows(path, file) if suffix in JSON_LINES else _csv_rows(path, file, "\t" if suffix == TSV else ",")
        )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked; whatever goes wrong while reading becomes a DataError that says how to mend it."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            yield file  # type: ignore[misc]  # GzipFile reads like a binary file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not a file. Name a file in it.") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}. Copy it again, or drop .gz from its name.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}. Check its permissions.") from error


def _not_utf8(path: Path, line: int) -> DataError:
    return DataError(f"{path}:{line}: not UTF-8 text. Save the file as UTF-8, for example: iconv -f LATIN1 -t UTF-8")


def _json_rows(path: Path, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, raw in enumerate(file, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise _not_utf8(path, number) from None
        if not line:
            continue
        value = parse_json(line, str(path), number)
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: expected one JSON object per line, found {type(value).__name__}.")
        yield number, value


def _csv_rows(path: Path, file: IO[bytes], delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(_lines(path, file), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(_MAX_FIELD)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.reader.line_num}: not valid CSV: {error}. Check the quotes.") from None
    finally:
        csv.field_size_limit(limit)


def _lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    """Decoded lines with their line ends, as the csv module wants them."""
    for number, raw in enumerate(file, start=1):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _not_utf8(path, number) from None


@register("source", "files")
class FileSource:
    """Prompts a user brings as a `data.Source`. harmful, benign: files of each; splits by content hash, 60/20/20."""

    def __init__(self, harmful: Iterable[str | Path] = (), benign: Iterable[str | Path] = ()) -> None:
        self._paths: dict[Label, list[str | Path]] = {"harmful": list(harmful), "benign": list(benign)}
        self._read: dict[Label, list[Sample]] = {}

    def samples(self, kind: Kind, *, constitution: Constitution, split: Split, n: int, seed: int) -> list[Sample]:
        """Up to `n` of the split, in an order drawn by `seed`. task: benign rows with a column `expected`. The files say what is
        harmful; the constitution is not asked. Raises DataError when no file of that label was given."""
        label: Label = "harmful" if kind == "harmful" else "benign"
        if label not in self._read:
            if not self._paths[label]:
                raise DataError(f"no files of {label} prompts were given. Name at least one.")
            self._read[label] = read_prompts(self._paths[label], label).samples
        kept = [
            s
            for s in self._read[label]
            if split_of(s.prompt, SHARES, "files") == split and (kind != "task" or s.expected)
        ]
        salt = str(derive(seed, "files", kind, split))
        kept.sort(key=lambda sample: uniform(sample.prompt, salt))
        return [sample.model_copy(update={"split": split}) for sample in kept[:n]]
