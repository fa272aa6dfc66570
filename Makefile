# The verbs of this repository. .ci/run calls the same ones; docs/testing.md explains the layers.
# Everything prints the commands it runs. Nothing is installed outside of this folder and the
# caches of go and npm.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO     ?= go
GOTEST ?= $(GO) test $(GOTESTFLAGS)

# How long one test binary may take before it is ended with all its stacks.
TEST_TIMEOUT ?= 10m
RACE_TIMEOUT ?= 15m

# The packages with goroutines; the race detector costs five to ten times.
RACE_PACKAGES ?= ./consensus/... ./ledger/... ./rpc/...

# Rounds of kill -9 under load (test/crash).
export LEDGERD_CRASH_ROUNDS ?= 20

LINT := $(GO) tool -modfile=.ci/tools/golangci-lint.mod golangci-lint
VULN := $(GO) tool -modfile=.ci/tools/govulncheck.mod govulncheck
NPM_CI := npm ci --ignore-scripts --prefer-offline --no-fund --no-audit

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: build
build: ## bin/ledgerd
	$(GO) build -o bin/ledgerd ./cmd/ledgerd

.PHONY: test
test: unit clients ## all tests: Go, then the clients that nobody here wrote

.PHONY: unit
unit: ## the Go tests; those of members that lie are in a build of their own
	$(GOTEST) -timeout $(TEST_TIMEOUT) ./...
	$(GOTEST) -timeout $(TEST_TIMEOUT) -tags byzantine -run '^TestByzantine' ./consensus/comet

.PHONY: clients
clients: node-present build feed-client test/clients/hardhat/node_modules/.ledgerd-installed ## the TypeScript client of the feed; acceptance with ethers, viem, web3.js, Foundry, Hardhat and others
	cd web/feed && npm test
	cd test/clients && LEDGERD_BIN=$(CURDIR)/bin/ledgerd npm test

test/clients/node_modules/.ledgerd-installed: test/clients/package-lock.json
	cd test/clients && $(NPM_CI) --omit=dev
	touch $@

# Hardhat is installed by the Node that it runs on: npm leaves out the parts of it that do not go with an older one.
test/clients/hardhat/node_modules/.ledgerd-installed: test/clients/hardhat/package-lock.json test/clients/node_modules/.ledgerd-installed
	cd test/clients/hardhat && newer=$$(node ../newer-node.mjs) && PATH=$${newer:+$$newer:}$$PATH $(NPM_CI)
	touch $@

.PHONY: feed-client
feed-client: node-present web/feed/node_modules/.ledgerd-installed ## compile web/feed
	cd web/feed && npm run build

web/feed/node_modules/.ledgerd-installed: web/feed/package-lock.json
	cd web/feed && $(NPM_CI)
	touch $@

.PHONY: check
check: fmt vet lint direction generated ## format, vet, lint, import direction, freshness of generated files

.PHONY: fmt
fmt:
	@echo 'gofmt -l (every Go file)'
	@files=$$($(GO) list -f '{{.Dir}}' ./... | while read -r dir; do gofmt -l "$$dir"/*.go; done); \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

# A linter of its own module; the first run compiles it (about two minutes), later ones find it in
# the cache of go.
.PHONY: lint
lint:
	$(LINT) run ./...

.PHONY: direction
direction:
	$(GO) test -timeout $(TEST_TIMEOUT) ./test/architecture

# Generated files are committed, so that go build needs neither Node nor solc. Here they are made
# again and compared.
.PHONY: generated
generated: node-present contracts/node_modules/.ledgerd-installed
	$(GO) mod tidy -diff
	$(GO) run ./rpc/internal/apidoc -check
	cd contracts && npm run check

.PHONY: apidoc
apidoc: ## rpc/apidoc.json: what rpc.discover says of methods, from their comments
	$(GO) run ./rpc/internal/apidoc

.PHONY: contracts
contracts: node-present contracts/node_modules/.ledgerd-installed ## compile the Solidity, write artifacts and bindings
	cd contracts && npm run build

contracts/node_modules/.ledgerd-installed: contracts/package-lock.json
	cd contracts && $(NPM_CI)
	touch $@

.PHONY: race
race: ## the packages with goroutines, under the race detector
	$(GOTEST) -race -timeout $(RACE_TIMEOUT) $(RACE_PACKAGES)
	$(GOTEST) -race -timeout $(RACE_TIMEOUT) -tags byzantine -run '^TestByzantine' ./consensus/comet

# govulncheck ends with 3 when it found something. Any other failure that comes from not reaching
# its database is said and forgiven, since a build machine may have no network.
.PHONY: vuln
vuln: ## known vulnerabilities in what we call
	@echo '$(VULN) ./...'; status=0; out=$$($(VULN) ./... 2>&1) || status=$$?; echo "$$out"; \
	if [ $$status -eq 0 ]; then exit 0; fi; \
	if [ $$status -ne 3 ] && grep -qE 'no such host|dial tcp|i/o timeout|connection refused|TLS handshake|proxyconnect' <<<"$$out"; then \
		echo 'SKIPPED: the vulnerability database (GOVULNDB, by default https://vuln.go.dev) cannot be reached from here'; exit 0; fi; \
	exit $$status

.PHONY: bench
bench: ## the Go benchmarks, in a form that benchstat reads
	$(GO) test -run '^$$' -bench . -benchmem -count $${COUNT:-6} -timeout 2h $${PKG:-./...}

.PHONY: bench-latency
bench-latency: node-present build ## eth_sendRawTransactionSync on an idle node, against Anvil
	@[ -x test/clients/node_modules/.bin/anvil ] || { set -x; cd test/clients && $(NPM_CI); touch node_modules/.ledgerd-installed; }
	cd test/clients && LEDGERD_BIN=$(CURDIR)/bin/ledgerd npm run bench-latency

.PHONY: long
long: ## what takes longer than a landing may: see .ci/long --list
	.ci/long

.PHONY: clean
clean: ## remove what was built and fetched
	rm -rf bin test/clients/node_modules test/clients/hardhat/node_modules contracts/node_modules web/feed/node_modules web/feed/dist

.PHONY: node-present
node-present:
	@command -v node >/dev/null && command -v npm >/dev/null || { echo 'error: Node 20 or newer and npm are needed for the client acceptance and for the contracts; `make unit` and `make build` need only Go' >&2; exit 1; }
	@node -e 'if (parseInt(process.versions.node) < 20) { console.error(`error: Node 20 or newer is needed, this is $${process.version}`); process.exit(1) }'
