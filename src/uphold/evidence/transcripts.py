"""Transcripts beside the ledger: what was asked and answered, held to it by salted commitments, sealed on demand, redactable.

`put` writes a stage's transcripts as one pack, `transcripts/ROOT.jsonl`, a line each, and enters its root and file hash into the ledger.
A line's commitment is SHA-256 over a random salt and the content; the root is SHA-256 over the commitments in order. Redaction
removes content and salt and leaves the commitment, so root and chain stand, and nobody can test a guess at what is gone. It is
itself a ledger entry: which, why, by whom. With UPHOLD_TRANSCRIPT_KEY (64 hex digits) in the environment content is sealed with
AES-256-GCM; packs can then be verified without the key, and read only with it.
Left out: copies of the same text elsewhere in a run folder, which `copies` finds and whoever redacts must deal with; and old blocks
on the disk under a file that was replaced.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from uphold.core.errors import ConfigError, DataError, StoreError
from uphold.core.files import open_atomic, read_jsonl, store_error, sync_folder
from uphold.core.records import canonical_json
from uphold.core.store import hash_file
from uphold.evidence.copies import copies
from uphold.evidence.entry import Entry
from uphold.evidence.ledger import Ledger
from uphold.evidence.paths import TRANSCRIPTS, transcripts_folder

KEY = "UPHOLD_TRANSCRIPT_KEY"
_DOMAIN = b"uphold-transcript-v1\0"


@dataclass(frozen=True)
class Transcript:
    """One transcript. commitment: its id, 64 hex digits. content: None when it was redacted, or is sealed and the key is not here."""

    commitment: str
    content: Any
    is_redacted: bool = False
    is_sealed: bool = False


@dataclass(frozen=True)
class Redaction:
    """What a redaction did. commitments: removed now. copies: other files of the run that hold the same text."""

    commitments: tuple[str, ...]
    entries: tuple[str, ...]
    copies: tuple[Path, ...]


def commitment_of(salt: bytes, content: Any) -> str:
    """SHA-256 (hex) over the salt (32 bytes) and the canonical JSON of the content."""
    return hashlib.sha256(_DOMAIN + salt + canonical_json(content).encode("utf-8", "surrogatepass")).hexdigest()


def root_of(commitments: Iterable[str]) -> str:
    """SHA-256 (hex) over the commitments of a pack, a line each."""
    whole = hashlib.sha256()
    for commitment in commitments:
        whole.update(commitment.encode("ascii") + b"\n")
    return whole.hexdigest()


def key_from_environment() -> bytes | None:
    """The 32 bytes of UPHOLD_TRANSCRIPT_KEY; None when it is not set. Raises ConfigError, without showing it, when it is no key."""
    text = os.environ.get(KEY)
    if not text:
        return None
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{KEY}: not 64 hex digits. Make one with: openssl rand -hex 32")
    return key


class Transcripts:
    """The transcripts of a run. key: 32 bytes to seal and open them with (default: from the environment; None: plain)."""

    def __init__(self, run: str | Path, key: bytes | None = None) -> None:
        self.ledger = Ledger(run)
        self.folder = transcripts_folder(run)
        self._key = key or key_from_environment()

    # writing

    def put(self, stage: str, contents: Iterable[Mapping[str, Any]]) -> str:
        """Keep all transcripts of a stage, in order; returns the pack's root. One at a time in memory.

        Writing again what is there adds nothing; what was redacted there stays redacted when all else is the same. Raises ConfigError
        when the stage was sealed before and no key is here.
        """
        found = self._latest(stage)
        if found is not None and found.body.get("sealed") and self._key is None:
            raise ConfigError(
                f"stage {stage!r}: its transcripts are sealed, and {KEY} is not set, so they would now be kept in the open. Set it again."
            )
        with self._locked():
            self._clear_strays()
            return self._put(stage, contents, found)

    def _put(self, stage: str, contents: Iterable[Mapping[str, Any]], found: Entry | None) -> str:
        before = iter(self.read(found.body["root"])) if found is not None else iter(())
        commitments: list[str] = []
        same = found is not None
        temporary = self.folder / f".{secrets.token_hex(6)}.tmp"
        try:
            with open(temporary, "xb") as file:
                for content, old in zip_longest(contents, before):
                    same = same and content is not None and old is not None and _is_same(content, old)
                    if content is not None:
                        line = self._line(plain(content))
                        commitments.append(line["commitment"])
                        file.write(_raw(line))
                file.flush()
                os.fsync(file.fileno())
            if same and found is not None:
                return str(found.body["root"])
            root = root_of(commitments)
            os.replace(temporary, self._path(root))
            sync_folder(self.folder)
        except OSError as error:
            raise store_error(self.folder, "write transcripts", error) from error
        finally:
            temporary.unlink(missing_ok=True)
        body = {
            "root": root,
            "n": len(commitments),
            "sha256": hash_file(self._path(root)),
            "sealed": self._key is not None,
        }
        self.ledger.put("transcripts", stage, {**body, "file": f"{TRANSCRIPTS}/{root}.jsonl"})
        return root

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, so that a pack the ledger does not know is known to be left over."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise store_error(self.folder, "write transcripts", error) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _clear_strays(self) -> None:
        """Delete what a killed writer left: half a pack, or a whole one that never came into the ledger."""
        known = {f"{pack.body['root']}.jsonl" for pack in self.packs()} if self.ledger.path.exists() else set()
        for path in self.folder.iterdir():
            if path.suffix == ".tmp" or (path.suffix == ".jsonl" and path.name not in known):
                path.unlink(missing_ok=True)

    def _line(self, content: Mapping[str, Any]) -> dict[str, Any]:
        salt = secrets.token_bytes(32)
        commitment = commitment_of(salt, content)
        if self._key is None:
            return {"commitment": commitment, "salt": salt.hex(), "content": content}
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(12)
        inner = _raw({"salt": salt.hex(), "content": content})
        sealed = AESGCM(self._key).encrypt(nonce, inner, commitment.encode("ascii"))
        return {"commitment": commitment, "nonce": nonce.hex(), "sealed": base64.b64encode(sealed).decode("ascii")}

    # reading

    def packs(self) -> list[Entry]:
        """The ledger's entry of every pack that was ever written, oldest first."""
        return [entry for entry in self.ledger.entries() if entry.kind == "transcripts"]

    def _latest(self, stage: str) -> Entry | None:
        if not self.ledger.path.exists():
            return None
        return self.ledger.view().named.get(("transcripts", stage))

    def _path(self, root: str) -> Path:
        return self.folder / f"{root}.jsonl"

    def read(self, root: str) -> Iterator[Transcript]:
        """A pack's transcripts, in order. Raises StoreError where one is not what was committed to."""
        path = self._path(root)
        if not path.exists():
            raise StoreError(f"{path}: is missing. Restore it from a copy; see: uphold verify")
        for number, line in read_jsonl(path):
            yield self._opened(line, f"{path}:{number}")

    def _opened(self, line: Mapping[str, Any], where: str) -> Transcript:
        if "sealed" in line and self._key is not None and not line.get("redacted"):
            commitment = str(line.get("commitment", ""))
            line = {"commitment": commitment, **_unsealed(line, commitment, self._key, where)}
        return _checked(line, where)

    def commitments(self, root: str) -> tuple[str, ...]:
        """The commitments of a pack, in order. Needs no key, and what was redacted is there too."""
        return tuple(str(line["commitment"]) for _, line in read_jsonl(self._path(root)))

    def find(self, wanted: Callable[[Transcript], bool]) -> list[Transcript]:
        """Transcripts of all packs for which `wanted` holds."""
        return [t for root in dict.fromkeys(p.body["root"] for p in self.packs()) for t in self.read(root) if wanted(t)]

    # redacting

    def redact(self, commitments: Sequence[str], *, reason: str, by: str) -> Redaction:
        """Remove the content of transcripts for good, and enter that into the ledger. Commitments may be shortened to 8 digits.

        A redaction that was killed half-way is finished by the same call. Raises DataError on a commitment that is not there or
        could be several, and without a reason or a name.
        """
        if not reason.strip() or not by.strip():
            raise DataError("a redaction needs a reason and the name of who asked for it.")
        places = self._places(commitments)
        entries, done, texts = [], [], []
        for root in dict.fromkeys(root for root, _ in places.values()):
            here = {commitment for commitment, (found, _) in places.items() if found == root}
            texts += [t.content for t in self.read(root) if t.commitment in here and t.content is not None]
            found = self._redact_pack(root, here, reason, by)
            entries.append(found)
            done += sorted(here)
        return Redaction(tuple(done), tuple(entries), tuple(copies(self.ledger.path.parent, texts)))

    def _places(self, commitments: Sequence[str]) -> dict[str, tuple[str, int]]:
        """full commitment -> (root of its pack, line) for each that was asked for."""
        known = {}
        for root in dict.fromkeys(pack.body["root"] for pack in self.packs()):
            for number, line in read_jsonl(self._path(root)):
                known[str(line.get("commitment", ""))] = (str(root), number)
        places = {}
        for asked in commitments:
            near = [c for c in known if c.startswith(asked)] if len(asked) >= 8 else []
            if len(near) != 1:
                why = f"begins {len(near)} transcripts" if near else "no transcript begins like that"
                raise DataError(f"{asked!r}: {why}. List them with: uphold evidence transcripts RUN")
            places[near[0]] = known[near[0]]
        return places

    def _redact_pack(self, root: str, commitments: set[str], reason: str, by: str) -> str:
        """Ledger first, then the file: a kill in between leaves a promise that verification holds us to, never an unexplained gap."""
        path = self._path(root)
        earlier = [e for e in self.ledger.entries() if e.kind == "redaction" and e.body["root"] == root]
        gone = commitments.union(
            *(e.body["commitments"] for e in earlier)
        )  # also what an interrupted redaction left there
        with self._locked(), open_atomic(path) as file:
            whole = hashlib.sha256()
            for _, line in read_jsonl(path):
                commitment = line["commitment"]
                kept = {"commitment": commitment, "redacted": True} if commitment in gone else line
                raw = _raw(kept)
                whole.update(raw)
                file.write(raw)
            last = earlier[-1] if earlier else None
            if last is not None and last.body["sha256"] == whole.hexdigest():
                return last.hash
            body = {
                "root": root,
                "commitments": sorted(commitments),
                "sha256": whole.hexdigest(),
                "reason": reason,
                "by": by,
            }
            return self.ledger.put("redaction", f"{root[:16]}.{len(earlier) + 1}", body)


def open_plain(line: str, where: str) -> Transcript:
    """The transcript on a line of a pack, for whoever has no key. Raises StoreError where it is not what was committed to."""
    try:
        members = json.loads(line)
    except ValueError:
        members = {}
    return _checked(members, where)


def _checked(line: Mapping[str, Any], where: str) -> Transcript:
    commitment = str(line.get("commitment", ""))
    if line.get("redacted"):
        return Transcript(commitment, None, is_redacted=True)
    if "sealed" in line:
        return Transcript(commitment, None, is_sealed=True)
    try:
        is_kept = hmac.compare_digest(commitment_of(bytes.fromhex(line["salt"]), line["content"]), commitment)
    except (KeyError, ValueError, TypeError):
        is_kept = False
    if not is_kept:
        raise StoreError(
            f"{where}: is not the transcript that was committed to. Restore it from a copy; see: uphold verify"
        )
    return Transcript(commitment, line["content"])


def _raw(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def plain(content: Any) -> Any:
    """Content as JSON brings it back, so that what is committed to is what will be read. Raises DataError on what JSON cannot carry."""
    try:
        return json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError(f"a transcript cannot be kept: {error}. Use plain values.") from None


def _is_same(content: Mapping[str, Any], old: Transcript) -> bool:
    return old.is_redacted or (not old.is_sealed and canonical_json(plain(content)) == canonical_json(old.content))


def _unsealed(line: Mapping[str, Any], commitment: str, key: bytes, where: str) -> dict[str, Any]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        sealed = base64.b64decode(line["sealed"], validate=True)
        inner = AESGCM(key).decrypt(bytes.fromhex(line["nonce"]), sealed, commitment.encode("ascii"))
    except InvalidTag:
        raise StoreError(
            f"{where}: cannot be opened. {KEY} is another key, or the line was changed: uphold verify tells."
        ) from None
    except (KeyError, ValueError, TypeError):
        raise StoreError(f"{where}: not a sealed transcript. Restore it from a copy; see: uphold verify") from None
    found: dict[str, Any] = json.loads(inner)
    return found


def problems(run: str | Path, ledger: Ledger) -> Iterator[tuple[str, int | None]]:
    """(what is wrong, seq of the ledger entry that says so) with the packs of a run. Needs no key."""
    expected: dict[str, list[tuple[str, Entry]]] = {}
    for entry in ledger.entries():
        if entry.kind in ("transcripts", "redaction"):
            expected.setdefault(str(entry.body.get("root")), []).append((str(entry.body.get("sha256")), entry))
    folder = transcripts_folder(run)
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in expected:
            yield (
                f"{TRANSCRIPTS}/{path.name} is not in the ledger: a write was interrupted, or it was put there. Delete it",
                None,
            )
    for root, states in expected.items():
        path = folder / f"{root}.jsonl"
        name = f"{TRANSCRIPTS}/{root[:12]}..."
        wanted, entry = states[-1]
        if not path.is_file():
            yield f"{name} is missing", entry.seq
            continue
        found = hash_file(path)
        if found == wanted:
            continue
        if any(found == earlier for earlier, _ in states):
            yield (
                f"{name} still holds what was redacted: the redaction was interrupted. Run the same one again",
                entry.seq,
            )
        else:
            yield f"{name} is not what the ledger vouches for{_where(path, root)}", entry.seq


def _where(path: Path, root: str) -> str:
    """': line N ...' for the first transcript that is not what was committed to, as far as that shows without a key."""
    commitments = []
    number = 0
    try:
        for number, line in read_jsonl(path):
            commitments.append(str(line.get("commitment", "")))
            if "content" in line and commitment_of(bytes.fromhex(line["salt"]), line["content"]) != commitments[-1]:
                return f": line {number} was changed"
    except (DataError, KeyError, ValueError, TypeError):
        return f": line {number + 1} cannot be read"
    return (
        ": lines were added, removed or moved" if root_of(commitments) != root else ": content was removed or resealed"
    )
