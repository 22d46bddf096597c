"""How long `import uphold` and `uphold --help` take: medians over fresh processes, written to results/startup.json.

    python benchmarks/startup.py            required: import < 0.3 s, help < 0.5 s

Wall-clock time of the whole process, the interpreter's own start included (it is measured beside them).
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from uphold.core import measure, stats
from uphold.core.files import write_json

RUNS = 21
COMMANDS = {
    "python_s": ["-c", "pass"],
    "import_uphold_s": ["-c", "import uphold"],
    "uphold_help_s": ["-m", "uphold", "--help"],
    "uphold_version_s": ["-m", "uphold", "--version"],
}
LIMITS_S = {"import_uphold_s": 0.3, "uphold_help_s": 0.5}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one fresh Python process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def machine() -> str:
    """What it was measured on, in one line, without names."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    """Measure each command RUNS times, in turn so that noise falls on all alike, and write the medians."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        seconds(arguments)  # once unmeasured: bytecode and the disk cache are warm afterwards, as for any second use
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            taken[name].append(seconds(arguments))
    records = []
    for name, values in taken.items():
        median = statistics.median(values)
        interval = stats.bootstrap_clustered(
            values, range(len(values)), statistic=lambda drawn: statistics.median(drawn)
        )
        record = measure.scalar(
            name, median, len(values), interval=interval, higher_is_better=False, unit="s", seeds=(0,), note="median"
        )
        records.append(record)
        limit = f", required < {LIMITS_S[name]}" if name in LIMITS_S else ""
        print(f"{name} {median:.3f} (n={len(values)}, 95% bootstrap {interval.low:.3f}-{interval.high:.3f}{limit})")
    path = Path(__file__).parent / "results" / "startup.json"
    write_json(path, {"machine": machine(), "command": "python benchmarks/startup.py", "measurements": records})
    print(f"written {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
