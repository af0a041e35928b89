# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every target sets up what it needs on a Debian machine; everything that is made lies in .cache. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .cache/venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
COLLECTION := .cache/collections/ansible_collections/netops/underlay
LAB := tests/lab/run

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: demo
demo: ## NetOps' map becomes networks on two hosts behind two switches, with the pings to prove it
	@tests/need lab
	@$(LAB) -- tests/demo/demo $(if $(shell test -t 1 && echo terminal),--terminal)

# --- tests ---------------------------------------------------------------------------------------

# Several at a time, the longest first: see tests/suites.
TESTS := test-rollout test-kernel test-kernel-6.12 test-examples test-reboot test-neighbours test-default test-sanity \
	test-l3 test-conformance test-guard test-endpoints test-unit test-docs test-report test-lint test-demo test-boot

.PHONY: test
test: $(READY) $(COLLECTION) lab ## everything, verified on a real kernel
	@set -o pipefail; tests/suites $(TESTS) 2>&1 | tee .cache/test.log

.PHONY: test-fast
test-fast: test-lint-fast ## what needs no kernel of its own, in a minute or two
	$(PYTHON) -m pytest -q --numprocesses=auto tests/unit

.PHONY: test-unit
test-unit: $(READY) ## pure tests, of the engine and of what runs on the controller
	$(PYTHON) -m pytest -q -n 2 tests/unit

# on the kernel of the machine, which has all of nf_tables
FILTERED := tests/kernel/test_isolation.py tests/kernel/test_spoof_check.py tests/kernel/test_firewalls.py

.PHONY: test-kernel
test-kernel: lab ## the engine and every module on Linux 7.2, and once without IPv6
	$(LAB) -- pytest -q tests/kernel
	$(LAB) --kernel-arg ipv6.disable=1 -- pytest -q tests/kernel/modules -m ipv6_off
	$(LAB) --rack -- pytest -q $(FILTERED)

.PHONY: test-kernel-6.12
test-kernel-6.12: lab ## what kernels may answer differently, on Linux 6.12
	$(LAB) --kernel 6.12 -- pytest -q tests/kernel -m "every_kernel and not one_kernel and not slow"

.PHONY: test-conformance
test-conformance: lab ## Docker's drivers and ours, side by side
	$(LAB) -- pytest -q tests/conformance

.PHONY: test-default test-endpoints test-l3
test-default: lab ## Molecule: the guide's networks on a host of Debian 13 and one of Debian 12
	$(LAB) --rack --host debian13 --host debian12 -- molecule test -s default
test-endpoints: lab ## Molecule: namespaces, units, strangers and many tasks at once, on two hosts
	$(LAB) --rack -- molecule test -s endpoints
test-l3: lab ## Molecule: routes by hand and by BGP
	$(LAB) --rack -- molecule test -s l3

.PHONY: test-guard test-reboot test-neighbours test-rollout
test-guard: lab ## whole machines: a change that cuts the controller off is undone
	$(LAB) --rack -- pytest -q tests/machines/test_guard.py
	$(LAB) --rack -- molecule test -s guard
test-reboot: lab ## whole machines: reboots, power cuts, healing
	$(LAB) --rack -- pytest -q tests/machines/test_reboot.py
	$(LAB) --rack -- molecule test -s reboot
test-neighbours: lab ## whole machines: beside NetworkManager, systemd-networkd, ifupdown, cloud-init, Docker and Podman
	$(LAB) --rack -- pytest -q tests/machines/test_neighbours.py tests/machines/test_containers.py
test-rollout: lab ## whole machines: from NetOps' table to a fleet and back
	$(LAB) --rack -- pytest -q tests/machines/test_rollout.py tests/machines/test_execution_environment.py
	$(LAB) --rack -- molecule test -s fleet

.PHONY: test-report
test-report: $(READY) ## the report's page, in a browser
	@command -v chromedriver >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq --yes install chromium chromium-driver; } >/dev/null
	$(PYTHON) -m pytest -q tests/report

.PHONY: test-demo
test-demo: $(READY) lab ## the demonstration, as a first user types it
	$(PYTHON) -m pytest -q tests/demo

.PHONY: test-docs
test-docs: $(READY) docs ## the documentation says what the code does, and the archive is clean
	$(PYTHON) -m pytest -q tests/docs/test_pages.py tests/release/test_release.py

.PHONY: test-examples
test-examples: lab ## every example of the documentation, and the installed archive, on a kernel
	$(LAB) --rack -- pytest -q tests/docs/test_examples.py tests/docs/test_modules.py tests/docs/test_plugins.py
	$(LAB) -- pytest -q tests/release/test_installed.py

# --- what is exhaustive --------------------------------------------------------------------------

SOAK := UNDERLAY_SOAK=1

.PHONY: soak soak-unit soak-sanity soak-kernel soak-kernel-6.12 soak-machines soak-qemu soak-bench
soak: $(READY) $(COLLECTION) lab ## hours: every crash point, long random sequences with new seeds, every size of the bench
	@set -o pipefail; tests/suites soak-kernel soak-kernel-6.12 soak-machines soak-unit soak-sanity soak-qemu soak-bench 2>&1 | tee .cache/soak.log
soak-unit: $(READY)
	$(SOAK) $(PYTHON) -m pytest -q tests/unit --timeout 7200
soak-sanity: $(READY)
	$(SOAK) tests/sanity/run
soak-kernel: lab
	$(SOAK) $(LAB) -- pytest -q tests/kernel --timeout 14400
	$(SOAK) $(LAB) --rack -- pytest -q $(FILTERED) --timeout 14400
soak-kernel-6.12: lab
	$(SOAK) $(LAB) --kernel 6.12 -- pytest -q tests/kernel --timeout 14400 -m "every_kernel or soak or slow"
soak-machines: lab
	$(SOAK) $(LAB) --rack -- pytest -q tests/machines --timeout 14400 -m soak
soak-qemu: lab ## the documentation's virtual machine boots on a tap, in an image that nothing else needs
	tests/qemu/build
	$(LAB) -- pytest -q tests/qemu
soak-bench: $(READY) $(COLLECTION) lab
	tests/bench/bench

.PHONY: test-core
test-core: ## unit, sanity and one roll-out with CORE, a version of ansible-core such as 2.18
	@tests/need venv
	@tests/need lab
	tests/core $(CORE)

.PHONY: test-python
test-python: ## the engine's unit tests on PYTHON_OF_HOSTS, such as python3.9
	@rm -rf .cache/python-of-hosts && $(PYTHON_OF_HOSTS) -m venv .cache/python-of-hosts
	@.cache/python-of-hosts/bin/pip install --quiet --disable-pip-version-check hypothesis pyroute2 pytest pytest-timeout
	.cache/python-of-hosts/bin/python -m pytest -q tests/unit/engine

.PHONY: test-bare
test-bare: ## the README's commands in trees that have git and make and nothing else; needs root and mmdebstrap
	tests/demo/bare bookworm
	tests/demo/bare trixie

.PHONY: test-boot
test-boot: lab ## the lab's kernels boot on processors with AMX too, and with few open files
	$(PYTHON) -m pytest -q tests/lab/test_preload.py tests/lab/test_lab.py -k "preload or amx or boot or limit or refused"

.PHONY: test-lab
test-lab: lab ## the lab itself; what runs in it relies on it, so this is for those who change it
	$(PYTHON) -m pytest -q tests/lab

.PHONY: mutants
mutants: $(READY) $(COLLECTION) ## do the unit tests notice? COUNT=300 small changes to the engine, chosen by SEED=1
	$(PYTHON) -m tests.mutants --count $(or $(COUNT),300) --seed $(or $(SEED),1)

# --- looks at the code ---------------------------------------------------------------------------

.PHONY: lint
lint: test-lint test-sanity ## all that looks at the code without running it

.PHONY: test-lint-fast
test-lint-fast: $(READY) $(COLLECTION)
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --check --quiet .
	$(PYTHON) -m mypy --no-error-summary plugins
	$(PYTHON) -m pytest -q tests/lint

.PHONY: test-lint
test-lint: test-lint-fast ## ruff, mypy, ansible-lint (profile production)
	PATH="$(abspath $(VENV))/bin:$$PATH" ANSIBLE_COLLECTIONS_PATH=$(abspath .cache/collections) ansible-lint --offline -q

.PHONY: test-sanity
test-sanity: $(READY) ## ansible-test sanity on the built collection
	tests/sanity/run

# --- what is made --------------------------------------------------------------------------------

$(READY): tests/requirements.txt
	@tests/need venv
	@python3 -m venv $(VENV)
	@echo "Installing the test tools into $(VENV)"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(COLLECTION):
	@mkdir -p $(@D) && ln -sfn $(CURDIR) $@

.PHONY: docs
docs: ## the documentation, in .cache/docs/html
	@tests/need venv
	docs/build

.PHONY: bench
bench: $(READY) $(COLLECTION) lab ## what it costs, beside its peers: .cache/bench.json and its page (QUICK=1: does it work)
	tests/bench/bench $(if $(QUICK),--quick)

.PHONY: peers
peers: $(READY) lab ## the page on what other systems can do, from what they are seen to do (ONLY=docker FEATURE=rate: one of them)
	tests/peers/install
	$(LAB) --mem 4G -- python -m tests.peers $(if $(ONLY),--only $(ONLY)) --feature "$(FEATURE)"

.PHONY: lab
lab: ## the kernels and root file systems that the tests run on
	@tests/need lab
	@tests/lab/build --root debian13 --root debian12 --kernel 7.2 --kernel 6.12

.PHONY: clean
clean: ## remove everything that was made
	tests/lab/build --clean
	rm -rf .cache .ansible .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
