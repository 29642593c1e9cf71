"""The measurement of a start."""

from pathlib import Path

import pytest

from bench import start

pytestmark = pytest.mark.long

TWICE = (
    "import time: self [us] | cumulative | imported package\n"
    "import time:      3000 |       3000 |   yaml.reader\n"
    "import time:       500 |       3500 | yaml\n"
    "import time:       900 |        900 | site\n",
    "import time:      4000 |       4000 |   yaml.reader\n"
    "import time:       400 |       4400 | yaml\n"
    "2026-11-28 INFO headway.core.local: serving\n"
    "import time:       200 |        200 | _ssl\n",
)


def test_the_imports_of_a_package_are_the_least_of_each_module() -> None:
    assert start.least(TWICE, {"site"}) == {"yaml": 3.4, "ssl": 0.2}


def test_a_limit_is_missed_by_the_median_of_the_rounds() -> None:
    fast = {name: [limit_s, limit_s, 10 * limit_s] for name, limit_s in start.LIMITS_S.items()}
    reference = {start.REFERENCE: [start.REFERENCE_S] * 3}
    assert start.judged(fast | reference)[1] == []
    slow = {start.HELP: [0.1, 0.16, 0.16]}
    assert start.judged(fast | slow | reference)[1] == [start.HELP]


def test_a_round_measures_what_is_judged(tmp_path: Path) -> None:
    took = dict(start.one_round(tmp_path))
    assert set(took) >= set(start.LIMITS_S)
    assert min(took.values()) > 0
    assert took[f"the first job accepted {start.EMPTY}"] > took[f"ready {start.EMPTY}"] > took[start.BARE]
