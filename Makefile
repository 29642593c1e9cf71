# Each target works alone on a fresh clone: bootstrap.py makes `.venv` first, and decides whether there
# is anything to do. Variables: PYTHON, ARGS, CONFIG, QUICK, ROUNDS, RUNS, TARGET, WHAT, HOURS, ENGINE and
# JOBS. All of this works in GNU Make 3.81, the version of macOS.

BIN := .venv/bin

# Each step runs even if the one before it failed.
LINT = s=0; $(BIN)/ruff format --check . || s=1; $(BIN)/ruff check . || s=1; $(BIN)/mypy || s=1

# Each release is one that its lock file names, with its hashes.
INSTALL := $(BIN)/python -m pip install -q --require-hashes -r

# A quarter of the short suite is waiting: for processes that end, for times that pass. But each
# worker collects all of it. Tests that take long measure times, and need more room.
CROWD = -n 5

# A queue of npm, with the runtime that it needs. No script of theirs runs.
BUNQUEUE = npm install --prefix tmp/bench-bunqueue --ignore-scripts --omit=optional --no-audit --no-fund --save-exact \
  --silent bunqueue@2.9.5 msgpackr@1.12.1 @oven/bun-linux-$(if $(filter x86_64,$(shell uname -m)),x64,aarch64)@1.4.5

.DEFAULT_GOAL := help
.PHONY: .venv run-server run-clients run-cluster test test-long test-dashboard check lint format promtool docs build clean help crash crash-cluster fuzz dist lock audit \
  bench bench-floor bench-gateways bench-tls bench-peers bench-polling bench-memory bench-clients bench-queues bench-journal bench-waiting bench-connections bench-crowd bench-start bench-dashboard bench-cluster bench-soak bench-overload soak soak-ci

# `make -j clean test` must not clean under the test's feet.
ifneq (,$(filter clean,$(MAKECMDGOALS)))
.NOTPARALLEL:
endif

run-server: .venv  ## serve on 127.0.0.1:8080 with config.yaml (or CONFIG=other.yaml)
	@exec $(BIN)/headway serve $(if $(CONFIG),--config '$(CONFIG)')

run-clients: .venv  ## put a crowd of clients on it (ARGS='--clients 500 --poll 1s --duration 60s')
	@exec $(BIN)/headway simulate $(if $(CONFIG),--config '$(CONFIG)') $(ARGS)

run-cluster: .venv  ## a Valkey and two nodes on it: submit to one, read from the other (ARGS=--stay)
	@$(INSTALL) requirements/cluster.txt
	@exec $(BIN)/python -m examples.cluster $(ARGS)

test: .venv  ## run the test suite (ARGS='-k board -x' goes to pytest)
	@$(BIN)/python -m pytest -m 'not long' $(CROWD) $(ARGS)

test-long: .venv  ## tests that take long by nature, properties, and the protocol's tests with a journal, and with a gateway
	@s=0; $(BIN)/python -m pytest -m long --reruns 1 $(ARGS) || s=1; \
	$(BIN)/python -m pytest -m 'hypothesis and not long' $(ARGS) || s=1; \
	TEST_JOURNAL=1 $(BIN)/python -m pytest -m 'not long' --reruns 1 tests/protocol $(ARGS) || s=1; \
	TEST_GATEWAYS=1 $(BIN)/python -m pytest -m 'not long' --reruns 1 tests/protocol $(ARGS) || s=1; exit $$s

test-dashboard: .venv  ## tests of the dashboard in a browser (SCREENSHOTS=1 keeps docs/img)
	@command -v chromium >/dev/null || { echo 'chromium is missing: apt-get install chromium' >&2; exit 1; }
	@$(INSTALL) requirements/dashboard.txt
	@DASHBOARD=1 $(BIN)/python -m pytest -n 2 --reruns 1 tests/dashboard $(ARGS)

check: .venv  ## format, lint, types and tests (CI runs test-long too)
	@$(LINT); $(BIN)/python -m pytest -m 'not long' $(CROWD) $(ARGS) || s=1; exit $$s

lint: .venv  ## the same without the tests
	@$(LINT); exit $$s

format: .venv  ## format the code and sort its imports
	@$(BIN)/ruff check --quiet --select I --fix . && $(BIN)/ruff format .

promtool: .venv  ## check the alerts and the metrics by promtool, as Prometheus reads them
	@command -v promtool >/dev/null || { echo 'promtool is missing: apt-get install prometheus' >&2; exit 1; }
	@$(BIN)/python -m pytest -n 0 tests/test_monitoring.py $(ARGS)

docs: .venv  ## write the generated pages, and the site into tmp/site; a broken link fails
	@$(INSTALL) requirements/docs.txt
	@$(BIN)/python -m docs.site

bench: .venv  ## ramp up to 15,000 locust users, charts in bench/results (QUICK=1: two minutes)
	@$(INSTALL) requirements/bench.txt
	@QUICK='$(QUICK)' $(BIN)/python -m bench.load

bench-crowd: .venv  ## the seed's clients that one server carries, and their CPU (ARGS='--beside HEAD~9': on another commit, too)
	@$(INSTALL) requirements/bench.txt
	@$(BIN)/python -m bench.crowd $(ARGS)

bench-overload: .venv  ## three times what the workers can do, a crowd that polls, and dripping clients
	@$(BIN)/python -m bench.overload $(ARGS)

bench-floor: .venv  ## cost of a HEAD and a POST beside nginx (ROUNDS=5)
	@$(BIN)/python -m bench.peers --floor --rounds $(or $(ROUNDS),5) $(ARGS)

bench-gateways: .venv  ## CPU of a HEAD at a gateway, beside one server alone (ROUNDS=5)
	@$(BIN)/python -m bench.gateways --rounds $(or $(ROUNDS),5) $(ARGS)

bench-tls: .venv  ## cost of TLS for a HEAD, beside nginx, and memory per connection (ROUNDS=5)
	@$(BIN)/python -m bench.tls --rounds $(or $(ROUNDS),5) $(ARGS)

bench-peers: .venv  ## the same on other stacks
	@$(INSTALL) requirements/bench-peers.txt
	@$(BIN)/python -m bench.peers --rounds $(or $(ROUNDS),5) $(ARGS)

bench-polling: .venv  ## polls, delay and CPU by policy, and crowds on paper (QUICK=1: two minutes)
	@$(INSTALL) requirements/bench.txt
	@QUICK='$(QUICK)' $(BIN)/python -m bench.polling $(ARGS)

bench-memory: .venv  ## memory per finished job, two million jobs
	@$(BIN)/python -m bench.memory $(ARGS)

bench-waiting: .venv  ## memory per waiting client
	@$(BIN)/python -m bench.waiting $(ARGS)

bench-connections: .venv  ## 20,000 clients that connect within two seconds, and memory of an idle one
	@$(BIN)/python -m bench.connections $(ARGS)

bench-start: .venv  ## from exec to ready, and the imports behind it
	@$(BIN)/python -m bench.start --rounds $(or $(ROUNDS),20) $(ARGS)

bench-dashboard: .venv  ## CPU of the server for 100 open pages of each screen
	@$(BIN)/python -m bench.dashboard $(ARGS)

bench-queues: .venv  ## jobs end to end, in memory and on disk, beside ten other queues
	@$(INSTALL) requirements/bench-queues.txt
	@test -d tmp/bench-arq || $(INSTALL) requirements/bench-arq.txt --target tmp/bench-arq
	@test -d tmp/bench-celery || $(INSTALL) requirements/bench-celery.txt --target tmp/bench-celery
	@test -d tmp/bench-bunqueue/node_modules || $(BUNQUEUE) || echo 'no npm, or no registry: bunqueue is left out' >&2
	@$(BIN)/python -m bench.queues --rounds $(or $(ROUNDS),1) $(ARGS)

bench-cluster: .venv  ## Headway on Valkey beside six queues, two nodes beside one, reads (QUICK=1: a minute)
	@$(INSTALL) requirements/bench-queues.txt
	@test -d tmp/bench-arq || $(INSTALL) requirements/bench-arq.txt --target tmp/bench-arq
	@test -d tmp/bench-celery || $(INSTALL) requirements/bench-celery.txt --target tmp/bench-celery
	@QUICK='$(QUICK)' $(BIN)/python -m bench.cluster $(ARGS)

bench-soak: .venv  ## ten million jobs through Headway on Valkey, and its memory (ARGS='--jobs 300000 --kept 100000')
	@$(INSTALL) requirements/bench-queues.txt
	@$(BIN)/python -m bench.cluster.soak $(ARGS)

bench-clients: .venv  ## clients of Valkey side by side: CPU of a call, TLS, a slow network, a cluster
	@$(INSTALL) requirements/bench-clients.txt
	@$(BIN)/python -m bench.clients --rounds $(or $(ROUNDS),5) $(ARGS)

bench-journal: .venv  ## cost of keeping jobs on disk
	@$(BIN)/python -m bench.journal --rounds $(or $(ROUNDS),20) $(ARGS)

crash: .venv  ## kill the server ROUNDS=100 times under load, count acknowledged jobs (WHAT=writer or engine: those, 30 times)
	@ROUNDS=$(or $(ROUNDS),$(if $(WHAT),30,100)) WHAT='$(or $(WHAT),server)' $(BIN)/python -m pytest -s -n 0 \
	tests/end_to_end/test_crash.py $(ARGS)

crash-cluster: .venv  ## kill, stop and part nodes and their Valkey ROUNDS=30 times (WHAT=kill_node: nodes alone)
	@ROUNDS=$(or $(ROUNDS),30) WHAT='$(WHAT)' $(BIN)/python -m pytest -s -n 0 tests/end_to_end/test_crash_cluster.py $(ARGS)

fuzz: .venv  ## try RUNS=1000000 inputs of TARGET=http (or another of tests/fuzz/seeds) under Atheris
	@$(INSTALL) requirements/fuzz.txt
	@exec $(BIN)/python -m tests.fuzz $(or $(TARGET),http) --runs $(or $(RUNS),1000000) $(ARGS)

soak: .venv  ## a crowd and faults for HOURS=1, ENGINE=journal, memory or valkey (JOBS=10000000: no-op jobs alone)
	@$(INSTALL) requirements/bench.txt
	@$(BIN)/python -m bench.soak --engine $(or $(ENGINE),journal) $(if $(JOBS),--jobs $(JOBS),--hours $(or $(HOURS),1)) $(ARGS)

soak-ci: .venv  ## the same for ten minutes
	@$(INSTALL) requirements/bench.txt
	@$(BIN)/python -m bench.soak --engine $(or $(ENGINE),journal) --hours 0.1667 $(ARGS)

build: .venv  ## single-file executables of server and clients in tmp/
	@$(INSTALL) requirements/build.txt
	@mkdir -p tmp
	@for part in server clients; do $(BIN)/shiv -q -p '/usr/bin/env python3' -c headway-$$part -o tmp/headway-$$part '.[simulate]' && \
	echo tmp/headway-$$part; done

dist: .venv  ## wheels and sdists of headway and headway-client in dist/, checked by twine
	@$(INSTALL) requirements/dist.txt
	@$(BIN)/python release/dist.py

lock: .venv  ## renew the lock files in requirements/ (ARGS=--upgrade: to the newest releases)
	@$(INSTALL) requirements/lock.txt
	@$(BIN)/python release/lock.py $(ARGS)

audit: .venv  ## look for known faults in what the lock files name; a source out of reach is told, and is no fault
	@$(INSTALL) requirements/audit.txt
	@$(BIN)/python release/audit.py $(ARGS)

clean:  ## remove .venv, caches and builds
	@rm -rf .venv build dist *.egg-info .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@on=; off=; if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then on=`printf '\033[36m'`; off=`printf '\033[0m'`; fi; \
	awk -F ':.*## ' -v on="$$on" -v off="$$off" \
	'/^[a-z-]+:.*## / { printf "  %smake %-13s%s %s\n", on, $$1, off, $$2 }' Makefile
	@echo "  PYTHON=python3.12 before make chooses the Python of .venv."

.venv:
	@$(or $(PYTHON),python3) bootstrap.py $(PYTHON)
