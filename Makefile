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
	@$(LAB) -- tests/demo/demo $(if $(shell test -t 1 && echo terminal),--colour)

# --- tests ---------------------------------------------------------------------------------------

# Two at a time, each one's output when it is over, all of them whatever one says; the longest begin first. What failed is said once more
# at the end, where whoever sees only the end of a long log finds it.
TESTS := test-rollout test-kernel test-kernel-6.12 test-examples test-reboot test-neighbours test-default test-default-debian12 test-sanity \
	test-l3 test-conformance test-guard test-endpoints test-unit test-docs test-report test-lint

.PHONY: test
test: $(READY) $(COLLECTION) lab ## everything, verified on a real kernel
	@set -o pipefail; $(MAKE) --jobs=2 --keep-going --output-sync=target --no-print-directory $(TESTS) 2>&1 | tee .cache/test.log \
		|| { echo "make test: not fine:"; grep -aE '^(FAILED [^-]|ERROR|E  |fatal:|lab:)' .cache/test.log | cut -c1-200 | tail -n 20; \
		grep -aF ']: *** [' .cache/test.log; exit 1; }
	@echo "make test: all of it is fine"

.PHONY: test-fast
test-fast: test-lint-fast test-unit ## what needs no kernel of its own, within two minutes

.PHONY: test-unit
test-unit: $(READY) ## pure tests, of the engine and of what runs on the controller
	$(PYTHON) -m pytest -q tests/unit

.PHONY: test-kernel
test-kernel: lab ## the engine and every module on Linux 7.2, and once without IPv6
	$(LAB) -- pytest -q tests/kernel
	$(LAB) --kernel-arg ipv6.disable=1 -- pytest -q tests/kernel/modules -m ipv6_off

.PHONY: test-kernel-6.12
test-kernel-6.12: lab ## the same on Linux 6.12, but for what takes a slow kernel too long
	$(LAB) --kernel 6.12 -- pytest -q tests/kernel -m "not slow"

.PHONY: test-conformance
test-conformance: lab ## Docker's drivers and ours, side by side
	$(LAB) -- pytest -q tests/conformance

.PHONY: test-default test-default-debian12 test-endpoints test-l3
test-default: lab ## Molecule: the guide's networks on two hosts of Debian 13
	$(LAB) --mem 4G -- molecule test -s default
test-default-debian12: lab ## the same on hosts of Debian 12
	$(LAB) --mem 4G --host debian12 --env RACK_TREE=/opt/hosts/debian12 -- molecule test -s default
test-endpoints: lab ## Molecule: namespaces, units, strangers and many tasks at once, on two hosts
	$(LAB) --mem 4G -- molecule test -s endpoints
test-l3: lab ## Molecule: routes by hand and by BGP
	$(LAB) --mem 4G -- molecule test -s l3

.PHONY: test-guard test-reboot test-neighbours test-rollout
test-guard: lab ## whole machines: a change that cuts the controller off is undone
	$(LAB) --fleet -- pytest -q tests/fleet/test_guard.py
	$(LAB) --fleet -- molecule test -s guard
test-reboot: lab ## whole machines: reboots, power cuts, healing
	$(LAB) --fleet -- pytest -q tests/fleet/test_reboot.py
	$(LAB) --fleet -- molecule test -s reboot
test-neighbours: lab ## whole machines: beside NetworkManager, systemd-networkd, ifupdown, cloud-init, Docker and Podman
	$(LAB) --fleet -- pytest -q tests/fleet/test_neighbours.py tests/fleet/test_containers.py
test-rollout: lab ## whole machines: from NetOps' table to a fleet and back
	$(LAB) --fleet -- pytest -q tests/fleet/test_rollout.py tests/fleet/test_execution_environment.py
	$(LAB) --mem 4G -- molecule test -s fleet

.PHONY: test-report
test-report: $(READY) ## the report's page, in a browser
	@command -v chromedriver >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq --yes install chromium chromium-driver; } >/dev/null
	$(PYTHON) -m pytest -q tests/report

.PHONY: test-docs
test-docs: $(READY) docs ## the documentation says what the code does, and the archive is clean
	$(PYTHON) -m pytest -q tests/docs/test_pages.py tests/release/test_release.py

.PHONY: test-examples
test-examples: lab ## every example of the documentation, and the installed archive, on a kernel
	$(LAB) -- pytest -q tests/docs/test_examples.py tests/docs/test_modules.py tests/docs/test_plugins.py tests/release/test_installed.py

.PHONY: test-lab
test-lab: lab ## the lab itself; what runs in it relies on it, so this is for those who change it
	$(PYTHON) -m pytest -q tests/lab

# --- looks at the code ---------------------------------------------------------------------------

.PHONY: lint
lint: test-lint test-sanity ## all that looks at the code without running it

.PHONY: test-lint-fast
test-lint-fast: $(READY) $(COLLECTION)
	$(VENV)/bin/ruff check --quiet .
	$(PYTHON) -m mypy --no-error-summary plugins

.PHONY: test-lint
test-lint: test-lint-fast ## ruff, mypy, ansible-lint (profile production)
	PATH="$(abspath $(VENV))/bin:$$PATH" ANSIBLE_COLLECTIONS_PATH=$(abspath .cache/collections) ansible-lint --offline -q

.PHONY: test-sanity
test-sanity: $(READY) ## ansible-test sanity on the built collection
	tests/sanity/run

# --- what is made --------------------------------------------------------------------------------

$(READY): tests/requirements.txt
	@python3 -m venv $(VENV) 2>/dev/null || { apt-get -qq update && apt-get -qq --yes install python3-venv && python3 -m venv $(VENV); }
	@echo "installing the test tools into $(VENV)"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(COLLECTION):
	@mkdir -p $(@D) && ln -sfn $(CURDIR) $@

.PHONY: docs
docs: ## the documentation, in .cache/docs/html
	docs/build

.PHONY: bench
bench: $(READY) $(COLLECTION) lab ## what it costs, beside its peers: .cache/bench.json and its page (QUICK=1: does it work)
	tests/bench/bench $(if $(QUICK),--quick)

.PHONY: lab
lab: ## the kernels and root file systems that the tests run on
	@tests/lab/build --root debian13 --root debian12 --kernel 7.2 --kernel 6.12

.PHONY: clean
clean: ## remove everything that was made
	tests/lab/build --clean
	rm -rf .cache .ansible .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
