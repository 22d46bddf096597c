"""`uphold constitution opinions`: votes of many people to clause proposals. The work is done in `uphold.constitution.collective`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from uphold.cli.common import Json, emit

if TYPE_CHECKING:
    from uphold.constitution.collective import Opinions, Opposition, Proposal


def command(
    votes: Annotated[Path, typer.Argument(metavar="VOTES.csv", help="Votes: one per row, or one row per participant.")],
    statements: Annotated[
        Path, typer.Option("--statements", metavar="FILE.csv", help="Ids and texts of the statements.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.yaml", help="Write the proposals as a constitution.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure", metavar="FILE.svg", help="Draw the opinion map (svg, png, pdf), numbers as CSV beside it."
        ),
    ] = None,
    groups: Annotated[
        int | None, typer.Option("--groups", help="Force this many opinion groups. Default: found.")
    ] = None,
    min_votes: Annotated[
        int, typer.Option("--min-votes", min=1, help="People with fewer votes are not placed in a group.")
    ] = 7,
    confidence: Annotated[
        float, typer.Option("--confidence", help="How sure to be, in every group, that most of it agrees (0.5 to 1).")
    ] = 0.9,
    revotes: Annotated[
        str, typer.Option("--revotes", help="When somebody's votes differ: error, or last to keep the latest.")
    ] = "error",
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=10, help="Resamples for the intervals of bridging scores.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Find what people of different minds agree on, and propose it as clauses.

    \b
    uphold constitution opinions votes.csv --statements comments.csv
    uphold constitution opinions votes.csv --statements comments.csv --out proposals.yaml --figure map.svg --json

    Exit codes: 0 done, 1 no statement has the support of every group, 2 the files cannot be used.
    """
    from uphold.constitution.collective import read_opinions, summary, to_constitution
    from uphold.constitution.opinions.figure import check_format, save_map
    from uphold.core.config import dump_yaml
    from uphold.core.errors import ConfigError, did_you_mean

    if revotes not in ("error", "last"):
        raise ConfigError(f"--revotes {revotes}: unknown choice. {did_you_mean(revotes, ('error', 'last'))}")
    if figure is not None:
        check_format(figure)
    started = time.perf_counter()
    opinions = read_opinions(
        votes,
        statements,
        n_groups=groups,
        min_votes=min_votes,
        confidence=confidence,
        revotes=cast(Any, revotes),
        n_boot=bootstrap,
        seed=seed,
    )
    if figure is not None:
        made_by = shlex.join(
            ["uphold", "constitution", "opinions", votes.name, "--statements", statements.name, "--seed", str(seed)]
        )
        save_map(figure, opinions.votes, opinions.groups, made_by)
    if out is not None and opinions.proposals:
        dump_yaml(to_constitution(opinions), out)
    written = [str(path) for path in (out if opinions.proposals else None, figure) if path is not None]
    result = {**summary(opinions), "written": written, "wall_s": round(time.perf_counter() - started, 3)}
    emit(result, as_json, _text(opinions, written))
    if not opinions.proposals:
        raise typer.Exit(1)


def _text(opinions: Opinions, written: list[str]) -> str:
    votes, groups = opinions.votes, opinions.groups
    lines = [
        f"{len(votes.participants)} people, {len(votes.statements)} statements, {votes.n} votes ({votes.missing:.1%} missing), "
        f"{votes.layout} layout; {votes.n_duplicates} duplicate votes dropped, {votes.n_revised} revised, "
        f"{votes.n_moderated} statements moderated out"
    ]
    if groups.n > 1:
        sizes = ", ".join(f"{chr(65 + g)} {size}" for g, size in enumerate(groups.sizes))
        lines.append(
            f"{groups.n} opinion groups ({sizes}; {int((groups.group_P < 0).sum())} people with too few votes): silhouette "
            f"{groups.silhouettes[groups.n]:.2f}, shuffled votes {groups.shuffled or 0:.2f}; stability {groups.stability or 0:.2f}"
        )
    else:
        lines.append("no opinion groups: votes are no more alike than shuffled ones; everybody counts as one group")
    lines += [_opposition(one) for one in opinions.representative]
    lines.append(
        f"{len(opinions.proposals)} proposals: most of every group agrees (probability >= {opinions.confidence:g})"
    )
    lines += [_proposal(proposal) for proposal in opinions.proposals]
    if not opinions.proposals:
        lines.append("no statement has the support of every group. Lower --confidence, or gather more votes")
    if written:
        lines.append(f"written {', '.join(written)}")
    return "\n".join(lines)


def _opposition(one: Opposition) -> str:
    return f"  {one.group} {one.direction}s {one.share_in:.0%} (n={one.n_in}), others {one.share_out:.0%} (n={one.n_out}): {one.text}"


def _proposal(one: Proposal) -> str:
    low, high = one.consensus_interval
    also = f"  [also {', '.join(one.merged)}]" if one.merged else ""
    return f"  consensus {one.consensus:.2f} ({low:.2f}-{high:.2f})  {one.modality:6} {one.text}{also}"
