"""How fast a small local model writes, beside `transformers.generate` in the same run. Writes results/generation.json.

    python benchmarks/generation.py

A random Llama of 1.7 million parameters (width 160, 4 layers, 1,500 words; 1.5 million with input and output words
tied, as in the clerk), one thread. Three loads of 256 conversations, replies of 25 tokens on average: equal prompts of
60 tokens and replies of 25 (nothing but the loop differs), prompts of 20 to 120 tokens with replies that end when they
end (batches and leaving rows matter), and the same behind one system prompt of 200 tokens. The other side runs batches
of 64 in the order given, left-padded, as its documentation shows. Both sides should write the very same tokens; where a
reply differs, the two likeliest words were equal to the last bits, which padding on the left moves. Rounds alternate; a
rate is the median round's, its interval the range. Rates are per second of processor time, which other processes on the
machine disturb less; wall time is beside them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

import torch  # noqa: E402

from uphold.core import stats  # noqa: E402
from uphold.core.files import write_json  # noqa: E402
from uphold.core.measure import scalar  # noqa: E402
from uphold.core.records import Measurement, Message  # noqa: E402
from uphold.models import Sampling, load_weights  # noqa: E402
from uphold.models.local import LocalModel  # noqa: E402
from uphold.models.tiny import write_tiny_llama  # noqa: E402

N, ROUNDS, ROWS, REPLY = 256, 3, 64, 25
LOADS = ("equal", "ragged", "system prompt")


def conversations(load: str, n: int) -> list[list[Message]]:
    """Conversations of random words; four tokens of each prompt are the template's."""
    rng = random.Random(0)
    sizes = [56 if load == "equal" else rng.randint(16, 116) for _ in range(n)]
    words = [f"w{i}" for i in range(1480)]
    made = [[Message(role="user", content=" ".join(rng.choices(words, k=size)))] for size in sizes]
    if load == "system prompt":
        system = Message(role="system", content=" ".join(rng.choices(words, k=200)))
        made = [[system, *turns] for turns in made]
    return made


def ours(model: LocalModel, asked: list[list[Message]], most: int) -> list[list[str]]:
    return [(reply.text or "").split() for reply in model.generate(asked, Sampling(max_new_tokens=most))]


def theirs(
    plain: Any, model: LocalModel, asked: list[list[Message]], most: int, ends: list[int] | None
) -> list[list[str]]:
    """Batches of ROWS in the order given, through transformers' own generate."""
    tokenizer = model.tokenizer
    tokenizer.padding_side = "left"
    replies: list[list[str]] = []
    for low in range(0, len(asked), ROWS):
        turns = [[m.model_dump() for m in turn] for turn in asked[low : low + ROWS]]
        batch = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = plain.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=0,
            )
        for row in out[:, batch["input_ids"].shape[1] :].tolist():
            cut = next((i for i, token in enumerate(row) if ends and token in ends), len(row))
            replies.append(tokenizer.decode(row[:cut], skip_special_tokens=True).split())
    return replies


def timed(work: Callable[[], list[list[str]]]) -> tuple[float, float, list[list[str]]]:
    """Seconds of processor time, seconds of wall time, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def compare(model: LocalModel, plain: Any, load: str) -> tuple[list[Measurement], str]:
    asked = conversations(load, N)
    # every 25th word ends a reply, so that random replies have 25 tokens on average
    ends = None if load == "equal" else list(range(2, 1500, REPLY))
    most = REPLY if load == "equal" else 4 * REPLY
    model._chat.ends = frozenset(ends or [])
    rounds: dict[str, list[tuple[float, float]]] = {"ours": [], "transformers": []}
    n_tokens, n_equal = 0, 0
    for _ in range(ROUNDS):
        cpu, wall, mine = timed(lambda: ours(model, asked, most))
        n_tokens = sum(map(len, mine))
        rounds["ours"].append((n_tokens / cpu, n_tokens / wall))
        cpu, wall, other = timed(lambda: theirs(plain, model, asked, most, ends))
        rounds["transformers"].append((n_tokens / cpu, n_tokens / wall))
        n_equal = sum(a == b for a, b in zip(mine, other, strict=True))
    found = []
    for side, rates in rounds.items():
        for clock, values in (("cpu", [c for c, _ in rates]), ("wall", [w for _, w in rates])):
            found.append(rate(f"generated_tokens_per_s.{side}", values, {"load": load, "clock": clock}))
    ratios = [a[0] / b[0] for a, b in zip(rounds["ours"], rounds["transformers"], strict=True)]
    found.append(rate("speed_over_transformers", ratios, {"load": load, "clock": "cpu"}, unit="ratio"))
    found.append(scalar("replies_equal_to_transformers", n_equal / N, N, unit="share", seeds=(0,), by={"load": load}))
    line = (
        f"{load:14s} {found[0].value:7,.0f} tokens/s, transformers.generate {found[2].value:7,.0f}, ratio {found[4].value:.2f} "
        f"(range {min(ratios):.2f}-{max(ratios):.2f}, {ROUNDS} rounds of {n_tokens:,} tokens); equal replies {n_equal}/{N}"
    )
    return found, line


def rate(metric: str, values: list[float], by: dict[str, str], unit: str = "tokens/s") -> Measurement:
    spread = stats.Interval(min(values), max(values), "range", 1.0)
    note = f"median of {len(values)} rounds"
    return scalar(
        metric, statistics.median(values), len(values), interval=spread, unit=unit, seeds=(0,), by=by, note=note
    )


def opening(folder: Path) -> list[Measurement]:
    """Seconds from starting Python to a model that can answer, in processes of their own."""
    code = f"from uphold import models; models.load({str(folder)!r})"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    taken: dict[str, list[float]] = {"cpu": [], "wall": []}
    for _ in range(ROUNDS):
        wall, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken["wall"].append(time.perf_counter() - wall)
        taken["cpu"].append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
    note = "Python, torch and the tokenizer's imports included"
    return [
        scalar(
            "open_model_s",
            statistics.median(values),
            ROUNDS,
            interval=stats.Interval(min(values), max(values), "range", 1.0),
            higher_is_better=False,
            unit="s",
            by={"clock": clock},
            note=note,
        )
        for clock, values in taken.items()
    ]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        size = {
            "n_words": 1492,
            "d_model": 160,
            "n_layers": 4,
            "n_heads": 5,
            "n_kv_heads": 5,
            "d_mlp": 432,
            "n_context": 512,
        }
        folder = write_tiny_llama(name, is_tied=False, spread=0.05, **size)
        found = opening(folder)
        print(f"opening a model takes {found[0].value:.2f} s of processor time, imports included")
        model = load_weights(str(folder))
        plain = load_weights(str(folder)).model
        ours(model, conversations("equal", 64), 2)  # warm up
        for load in LOADS:
            measurements, line = compare(model, plain, load)
            found += measurements
            print(line, flush=True)
    path = ROOT / "benchmarks" / "results" / "generation.json"
    host = f"{platform.machine()}, {os.cpu_count()} cores (one used), {platform.system()}"
    machine = f"{host}, Python {platform.python_version()}, torch {torch.__version__}"
    write_json(path, {"machine": machine, "command": "python benchmarks/generation.py", "measurements": found})
    print(f"written {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
