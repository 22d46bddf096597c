"""`uphold redteam campaign`: who takes part, what they sent, what became of it. `archive.py` has what goes in and out whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.rates import head, row

Where = Annotated[str, typer.Argument(help="Campaign file (SQLite), or a PostgreSQL URL.")]


def _open(where: str, *, create: bool = False) -> Any:
    from uphold.redteam.campaign.store import Campaign

    return Campaign(where, create=create)


def init(where: Where, as_json: Json = False) -> None:
    """Make a campaign, or open one that is there.

    \b
    uphold redteam campaign init bounty.db
    """
    _open(where, create=True).close()
    emit({"campaign": "ready"}, as_json, "campaign ready")


def invite(where: Where, name: str, as_json: Json = False) -> None:
    """Add a participant and print their key. It is shown this once: only its hash is kept."""
    key = _open(where).invite(name)
    emit({"name": name, "key": key}, as_json, f"{name}: {key}\nshown once; only its hash is kept")


def rekey(where: Where, name: str, as_json: Json = False) -> None:
    """Give a participant a new key in the place of the old one: when theirs is lost, or they came with an import."""
    key = _open(where).rekey(name)
    emit({"name": name, "key": key}, as_json, f"{name}: {key}\nshown once; only its hash is kept")


def scope(
    where: Where,
    name: str,
    question: str,
    fact: Annotated[list[str], typer.Option(help="A fact that makes the answer; repeat it.")],
    as_json: Json = False,
) -> None:
    """Add a forbidden question, with the facts that claims on it are graded by."""
    _open(where).scope(name, question, fact)
    emit({"scope": name}, as_json, f"scope {name}: {len(fact)} facts")


def record(
    where: Where,
    name: str,
    hours: Annotated[float, typer.Option(min=0)] = 0.0,
    attempts: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Add hours worked and attempts made by a participant."""
    _open(where).record(name, hours=hours, attempts=attempts)
    emit({"name": name, "hours": hours, "attempts": attempts}, as_json, f"{name}: +{hours} h, +{attempts} attempts")


def submit(
    where: Where,
    name: str,
    scope: Annotated[str, typer.Option(help="Scope the claim is about.")],
    strategy: Annotated[str, typer.Option(help="Name of the strategy: one on every scope is universal.")],
    transcript: Annotated[Path, typer.Option(help="JSONL: one {role, content} a line, the user's last.")],
    severity: Annotated[int, typer.Option(min=1, max=4)] = 1,
    as_json: Json = False,
) -> None:
    """Add a claim with its transcript."""
    from uphold.core.files import read_jsonl

    messages = [message for _, message in read_jsonl(transcript)]
    number = _open(where).submit(name, scope, strategy, messages, severity)
    emit({"submission": number}, as_json, f"submission {number}")


def list_(where: Where, as_json: Json = False) -> None:
    """List submissions, with the earlier one that each nearly repeats."""
    from uphold.redteam.campaign.replay import duplicates

    campaign = _open(where)
    repeats = duplicates(campaign)
    found = [{**claim, "repeats": repeats.get(claim["id"])} for claim in campaign.rows("submissions")]
    shown = [[str(c[k] or "") for k in ("id", "scope", "severity", "state", "repeats", "strategy")] for c in found]
    emit({"submissions": found}, as_json, table([["id", "scope", "severity", "state", "repeats", "strategy"], *shown]))


def triage(
    where: Where,
    number: int,
    state: str,
    severity: Annotated[int | None, typer.Option(min=1, max=4)] = None,
    as_json: Json = False,
) -> None:
    """Move a submission on: accepted (after a replay reproduced it), rejected, duplicate, disclosed."""
    _open(where).triage(number, state, severity=severity)
    emit({"submission": number, "state": state}, as_json, f"submission {number}: {state}")


def replay(
    where: Where,
    target: Annotated[str, typer.Option(help="Model to ask again: builtin:clerk, openai:URL#model.")],
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each claim.")] = 5,
    temperature: Annotated[float, typer.Option(min=0, max=5)] = 0.7,
    as_json: Json = False,
) -> None:
    """Ask every open claim again, blind; half of the scored replays must succeed."""
    from uphold import models
    from uphold.redteam.campaign.replay import replay as again

    chat = models.load(target)
    chat.check()
    found = again(_open(where), chat, n_seeds=seeds, temperature=temperature)
    lines = [f"submission {r['submission']}: {r['successes']} of {r['scored']} scored, {r['state']}" for r in found]
    emit({"replayed": found}, as_json, "\n".join(lines) or "nothing to replay")


def reward(where: Where, number: int, amount: float, note: str = "", as_json: Json = False) -> None:
    """Append a reward to the ledger; a correction is a negative amount."""
    _open(where).reward(number, amount, note)
    emit({"submission": number, "amount": amount}, as_json, f"submission {number}: {amount:+g}")


def leaderboard(where: Where, as_json: Json = False) -> None:
    """Points by severity x universality of confirmed claims; near-duplicates earn nothing."""
    from uphold.redteam.campaign.replay import leaderboard as board

    found = board(_open(where))
    rows = [[f"{r['points']:g}", str(r["claims"]), r["name"]] for r in found]
    emit({"leaderboard": found}, as_json, table([["points", "claims", "name"], *rows]))


def report(where: Where, as_json: Json = False) -> None:
    """Print the headline figures: participants, hours, attempts, universal jailbreaks, replay success, refusals of ordinary traffic."""
    from uphold.redteam.campaign.replay import headline

    found = headline(_open(where))
    people = found["participants"]
    lines = [f"participants  {people['invited']} invited, {people['active']} active"]
    lines += [
        f"{k.replace('_', ' ')}  {found[k]:g}" for k in ("hours", "attempts", "submissions", "universal_jailbreaks")
    ]
    beside = [("ordinary traffic refused", found["refusal_rate"]), ("  more than before", found["refusals_added"])]
    rows = [row(name, made) for name, made in beside if made is not None]
    shown = table([head("claims asked again", "asked"), row("replay success", found["replay_success"]), *rows])
    emit(found, as_json, "\n".join([*lines, shown]))


def serve(
    where: Where,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8040,
    per_minute: Annotated[int, typer.Option(min=1, help="Requests a person may send in a minute.")] = 60,
) -> None:
    """Serve the campaign to participants with keys, on this machine alone, until interrupted."""
    from uphold.models.serve import listen, run
    from uphold.redteam.campaign.app import make_app

    app = make_app(_open(where), per_minute=per_minute)
    bound = listen("127.0.0.1", port, None)
    print(f"serving on http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
    run(app, bound)


COMMANDS = {
    "init": init,
    "invite": invite,
    "rekey": rekey,
    "scope": scope,
    "record": record,
    "submit": submit,
    "list": list_,
    "triage": triage,
    "replay": replay,
    "reward": reward,
    "leaderboard": leaderboard,
    "report": report,
    "serve": serve,
}
