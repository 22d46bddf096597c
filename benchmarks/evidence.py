"""How fast the evidence room is: appending, verifying, signing, transcripts, importing, and building a card.

Writes results/evidence.json.

    python benchmarks/evidence.py

Targets: verify 100,000 entries in under 5 s; a card of 10,000 measurements in under 2 s; append at least 5,000 entries a second with
one fsync a batch of 100; eight writers killed at random 200 times lose nothing acknowledged; 1,000 single-bit flips all found and located.
A 200,000-sample log imported in minutes means 1,000 samples a second or more.
The measurements written are made up; only the times are results.
"""

from __future__ import annotations

import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "evidence")]

from synthetic_evidence import share  # noqa: E402

from uphold.core import environment, stats  # noqa: E402
from uphold.core.files import write_json  # noqa: E402
from uphold.core.measure import scalar  # noqa: E402
from uphold.core.records import Measurement  # noqa: E402
from uphold.evidence.attest import sign  # noqa: E402
from uphold.evidence.card import write_card  # noqa: E402
from uphold.evidence.format import describe  # noqa: E402
from uphold.evidence.importers import import_into  # noqa: E402
from uphold.evidence.keys import generate  # noqa: E402
from uphold.evidence.ledger import Ledger, verify  # noqa: E402
from uphold.evidence.proof import verify_run  # noqa: E402
from uphold.evidence.transcripts import Transcripts  # noqa: E402
from uphold.evidence.trust import Trust, add_key  # noqa: E402
from uphold.evidence.verify import check  # noqa: E402

BATCH = 100
REPEATS = 3
ABOUT = {
    "subject": {
        name: c * 64 for name, c in zip(("model", "guard", "constitution", "gateway_policy"), "abcd", strict=True)
    },
    "suite": "e" * 64,
    "judge": "ground truth",
    "data": "f" * 64,
    "seeds": (7,),
    "environment": environment.digest(),
}
"""what a measurement of the loop carries"""


def seconds(work: Callable[[], Any]) -> float:
    return timed(work)[0]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(seconds by the wall, seconds of this process's own processor time): the second does not mind who else uses the machine."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def fill(folder: Path, n: int) -> tuple[float, float]:
    """Append n made-up measurements of three systems, by family and clause, in batches of BATCH; returns what `timed` does."""
    ledger = Ledger(folder)
    systems = ("base", "aligned", "guarded")
    batches = [
        [
            share(
                f"attack_success_rate.{systems[b % 3]}",
                i,
                200,
                by={"family": f"f{i % 16}", "clause": f"c{b}.{i // 16}"},
                **ABOUT,
            )
            for i in range(BATCH)
        ]
        for b in range(n // BATCH)
    ]
    return timed(lambda: [ledger.append_measurements(f"stage{b}", batch) for b, batch in enumerate(batches)])


def flips(folder: Path, n: int) -> int:
    """Of n flipped bits, how many were found and located."""
    content = (folder / "ledger.jsonl").read_bytes()
    rng = random.Random(0)
    found = 0
    for _ in range(n):
        bit = rng.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        result = check(io.BytesIO(damaged))
        found += not result.ok and result.problems[0].entry == content.count(b"\n", 0, bit // 8)
    return found


def signing(folder: Path) -> tuple[list[float], list[float]]:
    """(seconds to sign a run of 10,000 measurements, to verify it with its card and a trust file that demands the signature)."""
    key = generate("bench", folder / "keys")
    trust: Trust = add_key(folder / "trust.yaml", "bench", key.public)
    sign_s = [seconds(lambda: sign(folder / "card", [key])) for _ in range(REPEATS)]
    check_s = [seconds(lambda: verify_run(folder / "card", trust)) for _ in range(REPEATS)]
    assert verify_run(folder / "card", trust).ok
    return sign_s, check_s


def transcripts(folder: Path, n: int, key: bytes | None) -> float:
    """Transcripts of two kilobytes kept a second."""
    said = [{"messages": [{"role": "user", "content": f"{i} " * 50}], "completion": "word " * 350} for i in range(n)]
    return n / seconds(lambda: Transcripts(folder, key).put("attack", said))


def inspect_log(path: Path, n: int) -> None:
    """An Inspect log of n samples in the shape Inspect writes, deflated."""
    header = {
        "version": 2,
        "status": "success",
        "eval": {
            "task": "made_up",
            "model": "none/none",
            "dataset": {"samples": n},
            "config": {"epochs": 1},
            "packages": {},
        },
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
        for i in range(n):
            messages = [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": "word " * 300}]
            scores = {"includes": {"value": "C" if i % 3 else "I"}}
            sample = {
                "id": i,
                "epoch": 1,
                "messages": messages,
                "output": {"completion": "word " * 300},
                "scores": scores,
            }
            log.writestr(f"samples/{i}_epoch_1.json", json.dumps(sample))
        log.writestr("header.json", json.dumps(header))


def imported(folder: Path, n: int) -> float:
    """Samples of an Inspect log imported a second, into a ledger."""
    inspect_log(folder / "made_up.eval", n)
    return n / seconds(lambda: import_into(Ledger(folder / "imported"), [folder / "made_up.eval"]))


def killed_writers(folder: Path, kills: int) -> dict[str, int]:
    """Entries acknowledged by eight writers under random kills, and how many of those are gone."""
    script = ROOT / "tests" / "evidence" / "writers.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, str(script), str(folder), str(kills), "1"], check=True, env=environment)
    Ledger(folder).append(share("last", 1, 2))
    kept = {entry.hash for entry in Ledger(folder).entries()}
    acknowledged = (folder / "acks").read_text().split()
    lost = sum(hash_ not in kept for hash_ in acknowledged)
    return {"kills": kills, "acknowledged": len(acknowledged), "lost": lost, "problems": len(verify(folder).problems)}


def repeated(work: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """(wall seconds, processor seconds) of each of REPEATS times."""
    times = [timed(work) for _ in range(REPEATS)]
    return [wall for wall, _ in times], [cpu for _, cpu in times]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        append_s, append_cpu = fill(folder / "large", 100_000)
        verify_s, verify_cpu = repeated(lambda: verify(folder / "large"))
        fill(folder / "card", 10_000)
        write_card(folder / "card")
        card_s, card_cpu = repeated(lambda: write_card(folder / "card"))
        sign_s, check_s = signing(folder)
        plain = transcripts(folder / "plain", 20_000, None)
        sealed = transcripts(folder / "sealed", 20_000, b"k" * 32)
        n_samples = 20_000
        import_rate = imported(folder, n_samples)
        fill(folder / "small", BATCH)
        n_flips = 1000
        n_found = flips(folder / "small", n_flips)
        writers = killed_writers(folder / "writers", 200)
    found = stats.clopper_pearson(n_found, n_flips)
    lost = stats.clopper_pearson(writers["lost"], writers["acknowledged"])
    measurements = [
        scalar(
            "append_entries_per_s",
            100_000 / append_s,
            100_000,
            unit="entries/s",
            note=f"one fsync per {BATCH}; >= 5,000",
        ),
        scalar("append_entries_per_cpu_s", 100_000 / append_cpu, 100_000, unit="entries/s", note="by processor time"),
        timing("verify_100000_entries_s", verify_s, "< 5 s"),
        timing("verify_100000_entries_cpu_s", verify_cpu, "by processor time"),
        timing("card_10000_measurements_s", card_s, "< 2 s"),
        timing("card_10000_measurements_cpu_s", card_cpu, "by processor time"),
        timing("sign_10000_measurements_s", sign_s, "two statements, one key"),
        timing("verify_run_10000_measurements_with_card_s", check_s, "ledger, signatures, every number on the card"),
        scalar("transcripts_kept_per_s", plain, 20_000, unit="transcripts/s", note="of 2 kB, plain"),
        scalar("transcripts_sealed_per_s", sealed, 20_000, unit="transcripts/s", note="of 2 kB, AES-256-GCM"),
        scalar("inspect_samples_imported_per_s", import_rate, n_samples, unit="samples/s", note=">= 1,000"),
        scalar(
            "flips_found_and_located", n_found / n_flips, n_flips, interval=found, unit="share", seeds=(0,), note="all"
        ),
        scalar(
            "acknowledged_entries_lost",
            writers["lost"] / writers["acknowledged"],
            writers["acknowledged"],
            interval=lost,
            higher_is_better=False,
            unit="share",
            seeds=(1,),
            note=f"eight writers, {writers['kills']} kills, {writers['problems']} problems in the ledger afterwards; none",
        ),
    ]
    for m in measurements:
        print(f"{m.metric} {describe(m)}  required: {m.note}")
    path = ROOT / "benchmarks" / "results" / "evidence.json"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    write_json(path, {"machine": machine, "command": "python benchmarks/evidence.py", "measurements": measurements})
    print(f"written {path.relative_to(ROOT)}")


def timing(metric: str, taken_s: list[float], required: str) -> Measurement:
    """The median of a few timings, with their range as interval."""
    spread = stats.Interval(min(taken_s), max(taken_s), "range", 1.0)
    median = statistics.median(taken_s)
    return scalar(metric, median, len(taken_s), interval=spread, higher_is_better=False, unit="s", note=required)


if __name__ == "__main__":
    main()
