"""Near-duplicates: exact on what shares a band, almost sure to find what is alike, the same in every process."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.constitution import language
from uphold.data import dedupe
from uphold.data.dedupe import NearDuplicates

A = "please tell me how to grow tall tomatoes on a small balcony in the north"
B = "please tell me how to grow tall tomatoes on a small balcony in the south"  # one of 13 triples differs
VOCABULARY = [f"word{i}" for i in range(400)]


def text(rng, n):
    return " ".join(rng.choice(VOCABULARY, n))


def test_shingles_are_word_triples_in_lower_case():
    assert dedupe.shingles("The cat SAT, the cat sat.") == {"the cat sat", "cat sat the", "sat the cat"}
    assert dedupe.shingles("Stop!") == {"stop"}
    assert dedupe.shingles("?!") == {"?!"}


def test_similarity_of_two_sentences_worked_by_hand():
    # 15 words give 13 triples each; they share the 12 that do not hold the last word: 12 / 14
    first, second = dedupe.shingle_hashes([A, B])
    assert dedupe.jaccard(first, second) == pytest.approx(12 / 14)


def test_the_first_of_a_pair_stays_and_the_second_names_it():
    index = NearDuplicates(0.8)
    assert index.add(["something else entirely here", A, B]) == [None, None, (1, pytest.approx(12 / 14))]
    assert len(index) == 2


def test_a_pair_below_the_threshold_stays():
    assert NearDuplicates(0.9).add([A, B]) == [None, None]


def test_texts_that_are_equal_up_to_case_and_punctuation_are_one():
    assert NearDuplicates(1.0).add(["Hello, my friend!", "hello my friend"]) == [None, (0, 1.0)]


def test_short_and_empty_texts_are_told_apart():
    assert NearDuplicates().add(["", "?", "yes", "no", "yes", ""]) == [None, None, None, None, (2, 1.0), (0, 1.0)]


def test_later_calls_know_the_earlier_ones():
    index = NearDuplicates()
    index.add([A])
    assert index.add(["unlike anything before it"]) == [None]
    assert index.add([B])[0].number == 0


def test_a_twin_may_stand_beside_its_own_text_and_no_other():
    index = NearDuplicates()
    (first, second) = index.prepare([A, B])
    index.keep(first)
    assert index.offer(second, beside=[0]) is None
    (again,) = index.prepare([B])
    assert index.offer(again, beside=[0]).number == 1


def test_what_is_dropped_is_exactly_alike_and_nearly_everything_alike_is_found():
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(300):
        words = text(rng, 30).split()
        texts.append(" ".join(words))
        for _ in range(
            int(rng.integers(0, 3))
        ):  # copies with one to three words changed: Jaccard from about 0.6 to 0.9
            copy = list(words)
            for at in rng.integers(0, 30, int(rng.integers(1, 4))):
                copy[at] = "changed"
            texts.append(" ".join(copy))
    shingles = [dedupe.shingles(one) for one in texts]
    expected: dict[int, int] = {}  # greedily, as the index works: a text is dropped for an earlier one that was kept
    for i, j, _ in sorted(language.similar_pairs(shingles, 0.8), key=lambda pair: (pair[1], pair[0])):
        if i not in expected:
            expected.setdefault(j, i)
    found = NearDuplicates(0.8).add(texts)
    dropped = {i for i, match in enumerate(found) if match}
    assert len(expected) > 50
    assert dropped <= set(expected)  # nothing is dropped on an estimate
    assert len(dropped) >= 0.99 * len(expected)


def test_bands_find_a_pair_at_the_threshold_almost_surely():
    # 25 bands of 5 rows: 1 - (1 - 0.8^5)^25 = 0.99995; 21 bands of 6 would give 0.9983, too few
    assert dedupe.band_shape(0.8) == (25, 5)
    assert dedupe.expected_recall(0.8) == pytest.approx(0.99995, abs=1e-5)
    for threshold in (0.3, 0.5, 0.7, 0.9, 1.0):
        bands, rows = dedupe.band_shape(threshold)
        assert bands * rows <= dedupe.PERMUTATIONS
        assert dedupe.expected_recall(threshold, threshold) > 0.999


def test_signatures_agree_as_often_as_the_sets_are_alike():
    rng = np.random.default_rng(1)
    words = text(rng, 400).split()
    other = [*words[:200], *text(rng, 200).split()]
    sets = dedupe.shingle_hashes([" ".join(words), " ".join(other)])
    first, second = dedupe.signatures(sets)
    # 128 permutations: a standard error of at most sqrt(0.25 / 128) = 0.044
    assert (first == second).mean() == pytest.approx(dedupe.jaccard(*sets), abs=4 * 0.044)


def test_a_crowd_of_equal_texts_is_one_text():
    assert sum(match is None for match in NearDuplicates().add([A] * 5000)) == 1


def test_hashes_are_the_same_in_another_process():
    program = f"from uphold.data.dedupe import *; print(signatures(shingle_hashes([{A!r}]))[0, :4].tolist())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(dedupe.signatures(dedupe.shingle_hashes([A]))[0, :4].tolist())


def test_nearest_neighbours_are_exact():
    found = dedupe.nearest_similarity([A, "nothing like it at all", B])
    assert found.tolist() == pytest.approx([12 / 14, 0.0, 12 / 14], abs=1e-6)
    assert dedupe.nearest_similarity([A, B], of=[1]).tolist() == pytest.approx([12 / 14], abs=1e-6)
    assert dedupe.nearest_similarity([A]).tolist() == [0.0]


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"threshold 0 is not in \(0, 1\]"):
        NearDuplicates(0)


@given(st.lists(st.text(alphabet="ab \U0001f600\ud800é", max_size=30), max_size=12))
def test_any_texts_can_be_added_and_none_is_kept_twice(texts):
    index = NearDuplicates()
    found = index.add(texts)
    assert len(found) == len(texts)
    assert len(index) == sum(match is None for match in found)
    assert all(match is not None and match.jaccard == 1.0 for match in index.add(texts))
