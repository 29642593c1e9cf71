"""The settings of a worker process's user and limits, and the refusals of those that cannot be had."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest
from headway.core.errors import ConfigError
from headway.core.processes.confinement import Confinement

from tests.core.engines import settings

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and return")


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Run without the rights of root."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_by_default_nothing_but_core_dumps_is_bounded() -> None:
    found = Confinement.of(settings())
    assert found == Confinement()
    assert not found.core
    assert found.environment({"HEADWAY_ENGINE": "valkey://host"}) is None


@root_only
def test_the_store_is_not_told_to_a_process_of_another_user() -> None:
    found = Confinement.of(settings(processes_as={"user": "nobody"}))
    variables = {"HEADWAY_ENGINE": "valkey://:hush@host", "HEADWAY_engine": "valkey://:hush@host", "PATH": "/bin"}
    variables |= {"HEADWAY_TOKEN": "hw_hush"}
    assert found.environment(variables) == {"PATH": "/bin"}


@root_only
@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"user": "hw-nobody-has-this"}, "processes_as.user: this system has no user 'hw-nobody-has-this'"),
        ({"user": "nobody", "group": "hw-no-group"}, "processes_as.group: this system has no group 'hw-no-group'"),
        ({"group": "daemon"}, "processes_as.group: there is no user beside it"),
        ({"user": "root"}, "processes_as.user: 'root' may do all that the server may"),
    ],
)
def test_a_user_that_cannot_be_is_refused_in_one_line(chosen: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Confinement.of(settings(processes_as=chosen))
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


@root_only
@pytest.mark.usefixtures("unprivileged")
def test_only_root_can_set_a_user() -> None:
    with pytest.raises(ConfigError, match=r"processes_as\.user: only root .* start the server as root"):
        Confinement.of(settings(processes_as={"user": "nobody"}))


@root_only
@pytest.mark.usefixtures("unprivileged")
def test_a_limit_above_that_of_the_server_is_refused_in_one_line() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with pytest.raises(ConfigError, match=rf"process_limits\.files: {hard + 1} is above .*, {hard}: raise that one"):
        Confinement.of(settings(process_limits={"files": hard + 1}))
    assert Confinement.of(settings(process_limits={"files": hard})).files == hard


def in_a_process(confinement: str, *lines: str) -> list[str]:
    """Run ``lines`` in a process of root that has groups, with ``found``. Return the lines that it writes."""
    code = ["import os, resource", "from headway.core.processes.confinement import Confinement"]
    code += [f"found = Confinement({confinement})", *lines]
    words = [sys.executable, "-c", "\n".join(code)]
    return subprocess.run(words, extra_groups=[4, 27], capture_output=True, text=True, check=True).stdout.split("\n")[
        :-1
    ]


@root_only
def test_a_process_of_another_user_has_no_group_of_the_server() -> None:
    told = "print(os.getgroups(), os.getresgid(), os.getresuid())"
    before, after = in_a_process(f"user='nobody', uid={NOBODY}, gid={NOBODY}", told, "found.enter()", told)
    assert before == "[4, 27] (0, 0, 0) (0, 0, 0)"
    assert after == f"[] {(NOBODY,) * 3} {(NOBODY,) * 3}"


@root_only
def test_a_process_can_take_no_more_cpu_time_than_for_ten_jobs() -> None:
    """The limit of a job is soft. Only root could raise the hard one."""
    told = "print(resource.getrlimit(resource.RLIMIT_CPU))"
    raised = ["try: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))", "except ValueError as error: print(error)"]
    confinement = f"user='nobody', uid={NOBODY}, gid={NOBODY}, cpu_s=5"
    life, job, error = in_a_process(confinement, "found.enter()", told, "found.begin_job()", told, *raised)
    soft, hard = map(int, life.strip("()").split(", "))
    assert 50 < soft == hard < 60
    soft, kept = map(int, job.strip("()").split(", "))
    assert 5 < soft < 15
    assert kept == hard
    assert "not allowed to raise maximum limit" in error


@root_only
@pytest.mark.long
def test_a_process_without_cpu_time_for_another_job_says_so() -> None:
    burn = "while time.process_time() < end: pass"
    said = in_a_process(
        "cpu_s=1",
        "import time",
        # As of a life that is nearly over.
        "end = time.process_time() + 1.0",
        "resource.setrlimit(resource.RLIMIT_CPU, (3, 3))",
        "found.enter()",
        *("found.begin_job()", "print(found.end_job())", burn),
        *("end += 1.0", burn, "print(found.end_job())"),
    )
    assert said == ["False", "True"]


@root_only
def test_time_between_two_jobs_is_of_no_job() -> None:
    told = "print(resource.getrlimit(resource.RLIMIT_CPU)[0])"
    before, during, after = in_a_process("cpu_s=5", told, "found.begin_job()", told, "found.end_job()", told)
    # Besides the time that the process has taken before.
    assert 5 < int(during) < 60
    assert after == before
