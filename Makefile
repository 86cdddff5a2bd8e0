# grayfed. `make demo` shows it, `make test` proves it; `make help` lists the rest.

# 1.26.8 and older have a remotely crashable HTTP/2 server.
export GOTOOLCHAIN := go1.26.11
export CGO_ENABLED := 0

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BIN        := bin/grayfed
LDFLAGS    := -s -w -X main.version=$(VERSION)
PACKAGES   := ./...
FUZZTIME   ?= 5s
DEMO_FLAGS ?=
LAB_FLAGS  ?=
BENCH      ?= .
PEERBENCH_FLAGS ?=

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/grayfed, one static binary
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/grayfed

.PHONY: demo
demo: build ## Run three zones on this machine (DEMO_FLAGS='--for 30s' ends by itself)
	$(BIN) dev $(DEMO_FLAGS)

.PHONY: consul
consul: ## Fetch the Consul agent that the tests and the lab run, unless there is one
	deploy/consul/fetch.sh

.PHONY: lab
lab: build consul nets ## Run three zones in network namespaces, with Consul, as root (LAB_FLAGS='--for 30s')
	$(BIN) dev --namespaces $(LAB_FLAGS)

.PHONY: nets
nets: # what namespaces and links between them are made with
	@command -v ip >/dev/null && command -v nft >/dev/null || { apt-get update -qq && apt-get install -y -qq iproute2 nftables; }

.PHONY: test
test: consul nets ## Run every test
	go vet $(PACKAGES)
	go test -timeout 10m $(PACKAGES)

.PHONY: race
race: consul nets ## Run every test under the race detector (needs a C compiler)
	@command -v $${CC:-gcc} >/dev/null || { apt-get update -qq && apt-get install -y -qq gcc libc6-dev; }
	CGO_ENABLED=1 go test -race -short -timeout 20m $(PACKAGES)

.PHONY: lint
lint: ## Run the linters, pinned in .tools/go.mod
	go tool -modfile=.tools/go.mod golangci-lint run $(PACKAGES)

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME each
	@set -e; for package in $$(go list $(PACKAGES)); do \
		targets=$$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); \
		for target in $$targets; do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: bench
bench: ## Run the micro benchmarks (BENCH=name narrows)
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PACKAGES)

.PHONY: soak
soak: ## Run the long forms: 100 rounds of gRPC, 1,000 changes under load, 4 GiB each way (3 minutes)
	go test -v -timeout 30m -run '^(TestGRPCInterop|TestConfigurationsChangeUnderLoad|TestLargeBodiesPass)$$' ./edge/ -soak

.PHONY: drills
drills: build consul nets ## Take the figures of the drills in the lab, as root (70 minutes, alone on the machine)
	@missed=; \
	run() { $(BIN) drill run "$$@" --target lab --out reports || missed="$$missed $$1"; }; \
	for name in $$($(BIN) drill list | awk 'NR > 1 {print $$1}'); do run $$name; done; \
	run az-loss --runs 50; run az-loss-both-primaries --runs 20; run asymmetric-partition --runs 20; \
	if [ -n "$$missed" ]; then echo "missed:$$missed"; exit 1; fi

.PHONY: peerbench
peerbench: build ## Measure beside nginx, haproxy, caddy and net/http (PEERBENCH_FLAGS='-rounds 3')
	cmd/peerbench/install.sh
	go build -trimpath -o bin/peerbench ./cmd/peerbench
	@set -e; for mode in load tls h2 routes idle; do bin/peerbench -mode $$mode $(PEERBENCH_FLAGS); done

.PHONY: fedbench
fedbench: build ## Measure the federation: registration, a zone's death, 100,000 instances
	go build -trimpath -o bin/peerbench ./cmd/peerbench
	@set -e; for mode in register kill instances; do bin/peerbench -mode $$mode $(PEERBENCH_FLAGS); done

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf bin reports
