"""Any two values meet in a quick test, and nothing is left out with the slow ones."""

import itertools

import pytest
from covering import covering, each_pair


@pytest.mark.parametrize("sizes", [(9, 2, 2), (7, 2, 4, 3, 2), (3, 3, 3)])
def test_any_two_values_meet_in_few_combinations(sizes):
    chosen = covering(sizes)
    for (i, one), (j, other) in itertools.combinations(enumerate(sizes), 2):
        assert {(row[i], row[j]) for row in chosen} == set(itertools.product(range(one), range(other)))
    assert len(chosen) < 2 * max(one * other for one, other in itertools.combinations(sizes, 2))


def test_all_combinations_are_there_and_those_beyond_are_slow():
    mark = each_pair(kind=[int, str], layout={"plain": None, "packed": (1, 2)}, many=[False, True])
    names, cases = mark.args
    assert names == ("kind", "layout", "many")
    assert [case.values for case in cases] == list(itertools.product([int, str], [None, (1, 2)], [False, True]))
    assert [case.id for case in cases][:3] == ["int-plain-False", "int-plain-True", "int-packed-False"]
    assert 4 <= sum(not case.marks for case in cases) < 8
