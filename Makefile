# Everything a person or a CI runs. `make help` lists the targets.

GO ?= go
# Tests build programs with the go of the path: let it be the same one.
ifneq (,$(findstring /,$(GO)))
export PATH := $(dir $(GO)):$(PATH)
endif

PKG ?= ./...

# What runs without a peer, and what needs one.
UNIT = $$($(GO) list ./... | grep -v -e /qemu-test -e /conformance)
# Packages where goroutines meet; the race detector costs five times the time.
RACE = ./memtable/... ./memfd/... ./virtio/... ./vhost/... ./cmd/...

# Groups of tests as NAME:SECONDS:COMMAND; the seconds are a budget on two cores.
# Their sum is the promise that `make test` takes less than twenty-five minutes.
lint  = 'lint:130:$(MAKE) -s lint'
unit  = 'unit:150:$(GO) test -json $(UNIT)'
race  = 'race:210:$(GO) test -json -race -short $(RACE)'
# Memory and drivers need no rights: their tests as a user who has none.
nobody = 'nobody:60:$(GO) build -o bin/nobody ./tools/nobody && $(GO) test -json -count=1 -exec $(CURDIR)/bin/nobody ./memtable ./memfd/... ./dma/... ./examples/frames'
conformance = 'conformance:50:$(GO) test -json ./vhost/conformance'
fuzz  = 'fuzz:240:$(GO) run ./tools/fuzz -go $(GO) -time 5s'
peers = 'peers:270:$(GO) test -json -count=1 -timeout 15m ./qemu-test/peers'
qemu  = 'qemu:300:$(GO) test -json -count=1 -timeout 15m $$($(GO) list ./qemu-test/... | grep -v /peers)'

# 128 MiB of huge pages are enough for all tests that want some.
TESTGROUPS = ./tools/hugepages.sh 64 $(GO) run ./tools/testgroups

.DEFAULT_GOAL := build
.PHONY: help build install test test-long race nobody fuzz lint bench bench-memory demo demo-memory mutants deps cover clean go-version soft-deps

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '  %-12s %s\n' "$$t" "$$d"; done

build: go-version ## build bin/vhostd, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/vhostd

test: go-version soft-deps build ## run all tests, each group against its budget of time
	@$(TESTGROUPS) $(lint) $(unit) $(nobody) $(conformance) $(race) $(fuzz) $(peers) $(qemu)

test-long: go-version soft-deps build ## run all tests under the race detector, and fuzz each target for a minute
	@$(TESTGROUPS) $(lint) $(nobody) $(conformance) 'race:1200:MEMFD_TEST_ROUNDS=200 $(GO) test -json -race -count=1 $(UNIT)' \
		'fuzz:3600:$(GO) run ./tools/fuzz -go $(GO) -time 60s' \
		'peers:900:PEERS_TEST_ROUNDS=10000 PEERS_TEST_KILLS=100 $(GO) test -json -count=1 -timeout 45m ./qemu-test/peers' $(qemu)

race: go-version ## run the unit tests under the race detector
	@$(TESTGROUPS) $(race)

fuzz: go-version ## fuzz each target for five seconds, tell what its inputs reach
	@$(TESTGROUPS) $(fuzz)

nobody: go-version ## run the tests of the memory supply as a user without rights
	@mkdir -p bin
	@$(TESTGROUPS) $(nobody)

lint: go-version ## gofmt, go vet (amd64 and arm64), staticcheck, and the house rules
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); test -z "$$bad" || { echo "not gofmt-clean:" $$bad; exit 1; }
	@$(GO) vet ./...
	@GOARCH=arm64 $(GO) vet ./...
	@$(GO) tool staticcheck ./...
	@$(GO) run ./tools/checkunsafe .

demo: go-version soft-deps build ## boot two guests behind the switch and let them talk
	@$(GO) run ./qemu-test/demo

demo-memory: go-version ## replay what went wrong when memory became pages: drivers' look-ups, and tables for peers; FLAGS=-json
	@$(GO) run ./examples/casestudies $(FLAGS)

bench: go-version ## run the micro-benchmarks; PKG= names packages
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

bench-memory: go-version ## measure the memory supply beside DPDK's, in turns; FLAGS=-json
	@./tools/deps.sh --soft --build
	@./tools/hugepages.sh 640 $(GO) run ./tools/membench $(FLAGS)

cover: go-version ## test coverage by package, and bin/cover.html
	@mkdir -p bin
	@$(GO) test -short -coverprofile=bin/cover.out $(UNIT) | grep -v 'no test files'
	@$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func=bin/cover.out | tail -1

mutants: go-version ## break a rule at a time: its conformance test must notice, and no other
	@$(GO) run ./tools/mutants -go "$(GO)"

deps: ## install QEMU, DPDK's testpmd and Open vSwitch (Debian, as root)
	@./tools/deps.sh

clean: ## remove what make has made
	rm -rf bin build

soft-deps:
	@./tools/deps.sh --soft

go-version:
	@./tools/check-go.sh "$(GO)"
