"""``make fuzz``: one target under Atheris, from its seeds on.

Inputs that go a new way are kept in tmp/fuzz/TARGET, and the next run begins with them. An input that
breaks a rule is kept in tmp/fuzz as ``TARGET-crash-…``. ``python -m tests.fuzz TARGET FILE`` runs it alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tests.fuzz.inputs import SEEDS, TARGETS, dictionary, target_of

KEPT = Path(__file__).parents[2] / "tmp" / "fuzz"


@click.command()
@click.argument("target", type=click.Choice(TARGETS))
@click.argument("inputs", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--runs", default=1_000_000, help="Inputs to try.")
@click.option("--seconds", default=0, help="Seconds after which it ends; 0: none.")
def main(target: str, inputs: tuple[Path, ...], runs: int, seconds: int) -> None:
    """Try INPUTS of TARGET, or make up RUNS of them."""
    if inputs:
        for path in inputs:
            target_of(target).fuzz_one(path.read_bytes())
        return
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit(
            "Atheris is not installed: make fuzz installs it where there is a wheel, for CPython 3.11 to 3.13 on Linux"
        )
    corpus = KEPT / target
    corpus.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["headway"]):
        fuzz_one = target_of(target).fuzz_one
    given = [
        *(f"-runs={runs}", f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=1024"),
        *(f"-artifact_prefix={KEPT}/{target}-", "-print_final_stats=1"),
        *([f"-dict={dictionary(target)}"] if dictionary(target).exists() else ()),
        *(str(corpus), str(SEEDS / target)),
    ]
    atheris.Setup([sys.argv[0], *given], fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
