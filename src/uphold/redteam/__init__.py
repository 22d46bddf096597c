"""Red team: attacks, the run, grading by ground truth, the report."""

from uphold.redteam.attacks import HELD_OUT, SUITE, TRAINED, Attack, attack_named, attacks_named
from uphold.redteam.grading import Grade, check_grader, grade, revealed
from uphold.redteam.report import compare, keyword_inflation, measurements, report, stages, universal
from uphold.redteam.run import Attempt, attack, attempts

__all__ = [
    "HELD_OUT",
    "SUITE",
    "TRAINED",
    "Attack",
    "Attempt",
    "Grade",
    "attack",
    "attack_named",
    "attacks_named",
    "attempts",
    "check_grader",
    "compare",
    "grade",
    "keyword_inflation",
    "measurements",
    "report",
    "revealed",
    "stages",
    "universal",
]
