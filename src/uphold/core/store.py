"""The run store: a folder of finished stages, each found again by the hash of what went into it.

    with RunStore.open("runs/demo") as store:
        result = store.stage("label", {"prompts": prompts_hash, "seed": 7}, make)

A stage's key is the digest of its name, its version and its inputs. `make(work)` fills a work folder and returns a summary; the
folder is then hashed into `stage.json` and renamed to `stages/NAME-KEY12`, so a stage is there and whole, or not there. A run that
is killed leaves its work folder under `work/`; the next run hands the same folder to `make` again, which may continue from what it
finds. Whatever does not depend on a changed input keeps its key and is reused after its file hashes were checked.
The lock is the operating system's (`flock`): it goes away with the process that held it, however that ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from uphold.core.errors import DataError, StoreError
from uphold.core.files import MEND, read_json, store_error, sync_folder, to_json, write_json
from uphold.core.records import digest

MANIFEST = "stage.json"
LOCK = ".lock"


@dataclass(frozen=True)
class StageResult:
    """A finished stage. path: its folder. key: 64 hex digits. summary: what `make` returned. reused: True when nothing was run.

    seconds: wall-clock time of the run that finished it (of that run only, when an earlier one was killed).
    """

    path: Path
    key: str
    summary: Any
    reused: bool
    seconds: float = 0.0


def stage_key(name: str, inputs: Mapping[str, Any], version: int = 1) -> str:
    """The content address of a stage: 64 hex digits. Inputs are JSON-able values or pydantic models."""
    return digest({"stage": name, "version": version, "inputs": dict(inputs)})


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunStore:
    """An open run folder. Use `RunStore.open`; holds the folder's lock until closed."""

    def __init__(self, folder: Path, lock: IO[str]) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(cls, folder: str | Path) -> RunStore:
        """Open or create a run folder and lock it. Raises StoreError when it is locked (naming the pid), foreign or not writable."""
        folder = Path(folder)
        mark = folder / "run.json"
        try:
            if folder.is_dir() and not mark.exists() and not (folder / LOCK).exists() and any(folder.iterdir()):
                raise StoreError(f"{folder}: holds files that are not a run. Choose a new or empty folder.")
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / LOCK, "a+", encoding="ascii")
        except OSError as error:
            raise store_error(folder, "open the run folder", error) from error
        try:
            _take(lock, folder)
            if not mark.exists():
                write_json(mark, {"format": "uphold-run", "version": 1})
            _check_mark(mark)
            for name in ("stages", "work"):
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            lock.close()
            raise store_error(folder, "open the run folder", error) from error
        except BaseException:
            lock.close()
            raise
        return cls(folder, lock)

    def close(self) -> None:
        """Release the lock. Closing twice is harmless."""
        if not self._lock.closed:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.close()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stage(
        self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], Any], *, version: int = 1
    ) -> StageResult:
        """The finished stage `name` for these inputs, made by `make(work)` when it is not there yet.

        make: fills the folder `work` (which may hold its own earlier, partial work) and returns a JSON-able summary.
        version: raise it when `make` changes what it produces. Raises StoreError when a finished stage is damaged or the disk refuses.
        """
        key = stage_key(name, inputs, version)
        target = self.path_of(name, key)
        if target.is_dir():
            manifest = verify_stage(target, key)
            return StageResult(target, key, manifest["summary"], reused=True, seconds=manifest["seconds"])
        work = self.folder / "work" / target.name
        try:
            work.mkdir(parents=True, exist_ok=True)
            for torn in work.rglob(".*.tmp"):  # what a killed run was writing when it died
                torn.unlink()
            started = time.monotonic()
            summary = json.loads(
                to_json(make(work))
            )  # what a reused stage will return, so both paths give equal values
            seconds = round(time.monotonic() - started, 3)
            manifest = {"stage": name, "key": key, "version": version, "inputs": dict(inputs), "summary": summary}
            (work / MANIFEST).unlink(missing_ok=True)
            write_json(work / MANIFEST, {**manifest, "seconds": seconds, "files": _hash_folder(work)})
            target.parent.mkdir(exist_ok=True)
            os.rename(work, target)
            sync_folder(target.parent)
        except OSError as error:
            if error.errno not in MEND:  # a refused connection, say: not the store's to explain
                raise
            raise store_error(Path(error.filename or work), f"finish stage {name!r}", error) from error
        return StageResult(target, key, summary, reused=False, seconds=seconds)

    def path_of(self, name: str, key: str) -> Path:
        """Where the stage `name` with `key` stands, or will stand."""
        return self.folder / "stages" / f"{name}-{key[:12]}"

    def stages(self) -> Iterator[Path]:
        """The folders of all finished stages, oldest first."""
        found = [path for path in (self.folder / "stages").iterdir() if (path / MANIFEST).is_file()]
        yield from sorted(found, key=lambda path: ((path / MANIFEST).stat().st_mtime_ns, path.name))

    def prune_work(self) -> None:
        """Delete what killed runs left unfinished. Call it at the end of a run that finished: nothing needs it any more."""
        for path in (self.folder / "work").iterdir():
            shutil.rmtree(path, ignore_errors=True)


def verify_stage(path: Path, key: str) -> dict[str, Any]:
    """The manifest of a finished stage, once every file was found to hash as recorded. Raises StoreError naming the damaged file."""
    mend = f"Delete {path} and run the same command again: only this stage is redone."
    try:
        manifest = read_json(path / MANIFEST)
        recorded = dict(manifest["files"])
        if not {"summary", "seconds"} <= manifest.keys():
            raise KeyError("summary")
        if manifest["key"] != key:
            raise StoreError(f"{path / MANIFEST}: belongs to another stage (key {str(manifest['key'])[:12]}). {mend}")
    except (DataError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path / MANIFEST}: the stage's record is missing or damaged. {mend}") from error
    for name, expected in recorded.items():
        try:
            actual = hash_file(path / name)
        except OSError:
            raise StoreError(f"{path / name}: missing or unreadable, though the stage was finished. {mend}") from None
        if actual != expected:
            raise StoreError(f"{path / name}: changed since the stage was finished. {mend}")
    for name in _file_names(path):
        if name not in recorded and name != MANIFEST:
            raise StoreError(f"{path / name}: was not there when the stage was finished. {mend}")
    return manifest


def _file_names(folder: Path) -> list[str]:
    """Relative posix paths of every file below `folder`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _hash_folder(folder: Path) -> dict[str, str]:
    """Relative posix path -> SHA-256 of every file below `folder`; each file is flushed to the disk first."""
    hashes = {}
    for name in _file_names(folder):
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
        hashes[name] = hash_file(folder / name)
    return hashes


def _take(lock: IO[str], folder: Path) -> None:
    """Take the exclusive lock and write this pid into it, or raise StoreError with the pid found there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        who = f"process {holder}" if holder else "another process"
        raise StoreError(
            f"{folder}: {who} is working in this run folder. Wait for it, stop it, or choose another folder."
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _check_mark(mark: Path) -> None:
    """Raise StoreError unless `run.json` says that this folder is a run of a version we know."""
    try:
        found = read_json(mark)
    except DataError as error:
        raise StoreError(f"{mark}: damaged. Delete this file and run the same command again.") from error
    if not isinstance(found, dict) or found.get("format") != "uphold-run":
        raise StoreError(f"{mark.parent}: is not a run folder of Uphold. Choose another folder.")
    if found.get("version") != 1:
        raise StoreError(
            f"{mark.parent}: written by another version of Uphold. Choose another folder, or install that version."
        )
