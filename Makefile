# Everything here works from a fresh clone, as root and as an ordinary user. Services are started on free ports and are
# gone afterwards; nothing assumes that one is there or not.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GO          ?= go
PKGS        ?= ./...
TESTFLAGS   ?=
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
DEADCODE    ?= golang.org/x/tools/cmd/deadcode@v0.52.0
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0

# The oracle's thousands of scenarios run once more without the race detector, under which they are hundreds.
# One PostgreSQL server for all that the command starts, its URL in TOCSIN_TEST_DATABASE_URL.
WITH_POSTGRES = $(GO) run ./internal/postgres/postgrestest/withpostgres

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What the binary says of itself; the commit is recorded by Go.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: build
build: ## Build bin/tocsin, which says VERSION= (default: what git describes)
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/ ./cmd/tocsin

.PHONY: man
man: build ## Write the manual, one page a command, to bin/man/man1
	bin/tocsin man bin/man/man1

.PHONY: image
IMAGE ?= tocsin
image: ## Build the container image IMAGE=tocsin with VERSION= in it
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$$(git rev-parse --short=12 HEAD) \
	  --build-arg CREATED=$$(git log -1 --format=%cI) -t $(IMAGE) .

.PHONY: test
test: ## Run the tests with the race detector; PKGS=./delivery/... for some, TESTFLAGS='-run X -v' for how
	@deploy/setup.sh postgresql pgbouncer rabbitmq-server activemq chromium
	@set -o pipefail; begin=$$(date +%s); code=0; \
	$(WITH_POSTGRES) $(GO) test -race -shuffle=on -timeout 30m $(TESTFLAGS) $(PKGS) || code=$$?; \
	if [ "$(PKGS)" = ./... ]; then $(WITH_POSTGRES) $(GO) test -count=1 -v -timeout 30m -run '^TestOracle$$' ./matcher/oracle -oracle.budget=10m | grep -v '^ *--- PASS\|^=== ' || code=1; fi; \
	echo "tests took $$(( $$(date +%s) - begin )) s"; exit $$code

.PHONY: test-quick
test-quick: ## Run the tests without the race detector and with fewer random cases
	@deploy/setup.sh postgresql pgbouncer rabbitmq-server activemq chromium
	@begin=$$(date +%s); code=0; \
	$(WITH_POSTGRES) $(GO) test -short -shuffle=on -timeout 15m $(TESTFLAGS) $(PKGS) || code=$$?; \
	echo "tests took $$(( $$(date +%s) - begin )) s"; exit $$code

.PHONY: lint
lint: ## Check form, vet, find dead code and run staticcheck; govulncheck where its database can be reached
	@files=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$files" ]; then echo "not formatted (gofmt -w):"; echo "$$files"; exit 1; fi
	$(GO) vet $(PKGS)
	$(GO) run $(STATICCHECK) $(PKGS)
	@# What no program of ours reaches, but for the exceptions; then what not even tests reach.
	@dead=$$($(GO) run $(DEADCODE) ./...) && unreached=$$($(GO) run $(DEADCODE) -test ./...) || exit 1; \
	dead=$$(grep -vE -f <(grep -v '^#\|^$$' internal/houserules/deadcode.txt) <<<"$$dead"); \
	if [ -n "$$dead$$unreached" ]; then printf 'nothing calls these: use them, take them away, or except them in internal/houserules/deadcode.txt\n%s\n' "$$dead$$unreached"; exit 1; fi
	@if curl -fsS -m 10 -o /dev/null https://vuln.go.dev/index/db.json; then $(GO) run $(GOVULNCHECK) $(PKGS); \
	else echo "govulncheck left out: https://vuln.go.dev does not answer"; fi

.PHONY: demo
demo: build ## Index an image, change a feed, see the signed event arrive; KEEP=1 stays up
	@deploy/setup.sh postgresql
	bin/tocsin demo

.PHONY: compose-test
compose-test: ## Bring up docker-compose.yml with the machine's Docker engine and prove that it works
	$(GO) test -tags compose -count=1 -timeout 60m -v ./deploy/composetest

.PHONY: helm-test
helm-test: ## Render the Helm chart and hold it to its golden files and promises
	cd deploy/helm/charttest && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: rules-test
rules-test: ## Check the alerts for Prometheus, and play series to them, with promtool, which is built from its module
	cd deploy/observability/rulestest && $(GO) tool promtool check rules ../rules.yaml
	cd deploy/observability/rulestest && $(GO) tool promtool test rules ../rules_test.yaml

.PHONY: helm-update
helm-update: ## Write the chart's golden files and the plain manifests anew
	cd deploy/helm/charttest && $(GO) test -count=1 ./... -update

.PHONY: oracle
SEEDS ?= 5000
SEED  ?= 0
oracle: ## Hold the events of SEEDS=5000 random scenarios from SEED=0 on against libvuln's reports
	$(WITH_POSTGRES) $(GO) test -count=1 -timeout 0 -v -run '^TestOracle$$' ./matcher/oracle -oracle.seeds=$(SEEDS) -oracle.seed=$(SEED)

.PHONY: fuzz
TIME ?= 1m
# That the time ended within a worker's turn is no finding, though go test ends with an error.
fuzz: ## Fuzz every parser in turn for TIME=1m each; what is found stays under testdata/fuzz as a test
	@set -o pipefail; grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' $$file); do \
	    echo "$$(dirname $$file) $$target"; \
	    found=$$(mktemp); \
	    $(WITH_POSTGRES) $(GO) test -run '^$$' -fuzz "^$$target$$$$" -fuzztime $(TIME) $$(dirname $$file) 2>&1 | tee $$found || \
	      { ! grep -q 'Failing input\|build failed\|panic:' $$found && grep -q 'context deadline exceeded' $$found; } || exit 1; \
	    rm -f $$found; \
	  done; \
	done

.PHONY: kill-test
KILLS ?= 10
kill-test: ## Run the fixtures through a server that is killed KILLS=10 times
	$(WITH_POSTGRES) $(GO) test -count=1 -timeout 0 -v ./internal/e2e -e2e.kills=$(KILLS)

.PHONY: upgrade-test
REF ?= 5d235ac
upgrade-test: ## Upgrade from REF=5d235ac to this version and back, process by process, under load
	@deploy/setup.sh postgresql
	deploy/upgrade-test.sh $(REF)

.PHONY: peers
CLAIR    ?=
CLAIRCTL ?=
QUAY     ?=
PYTHON   ?= python3
peers: ## Run Clair's and Quay's own programs against Tocsin: CLAIR=clair CLAIRCTL=clairctl QUAY=folder of its sources, PYTHON=one with what Quay imports
	@set -o pipefail; $(WITH_POSTGRES) $(GO) test -tags peers -count=1 -timeout 30m -v -run '^TestPeers$$' ./internal/e2e \
	  -args -peers.clair='$(CLAIR)' -peers.clairctl='$(CLAIRCTL)' -peers.quay='$(QUAY)' -peers.python='$(PYTHON)' | grep --line-buffered -v '^=== \|^--- PASS\|^PASS$$\|^ok '

.PHONY: soak
HOURS ?= 1
soak: ## Keep a server at half its load for HOURS=1, with restarts of NATS, and hold what it takes to be flat; the last line says
	@deploy/setup.sh postgresql
	@set -o pipefail; log=$$(mktemp); code=0; \
	$(WITH_POSTGRES) $(GO) test -count=1 -timeout 0 -v -run '^TestSoak$$' ./internal/e2e -e2e.soak=$(HOURS) | tee "$$log" || code=$$?; \
	grep '^soak ' "$$log" | tail -n 1; rm -f "$$log"; exit $$code

.PHONY: bench-affected
N         ?= 10000
V         ?= 1000
CLAIRCORE ?= 3m
bench-affected: ## Measure an update of V=1000 vulnerabilities against N=10000 manifests; CLAIRCORE=3m bounds claircore's own way, 0 leaves it out
	$(GO) run ./internal/tools/benchaffected -n $(N) -v $(V) -claircore $(CLAIRCORE)

.PHONY: bench-delivery
EVENTS  ?= 10000
TARGETS ?= 10
bench-delivery: ## Measure deliveries of EVENTS=10000 events to TARGETS=10 webhooks
	$(GO) run ./internal/tools/benchdelivery -events $(EVENTS) -targets $(TARGETS)

.PHONY: chaos-delivery
CHAOS ?= 60s
chaos-delivery: ## Kill replicas, PostgreSQL, RabbitMQ and NATS under load for CHAOS=60s and count what was lost
	$(GO) run ./internal/tools/benchdelivery -chaos $(CHAOS)

.PHONY: docs
docs: ## Write what is made from the source: schemas, OpenAPI, AsyncAPI, the configuration reference
	$(GO) generate ./...
	$(GO) test -count=1 -run '^TestMapIsTrue$$' ./internal/houserules -update
	$(WITH_POSTGRES) $(GO) test -count=1 -run '^TestMetrics$$' ./internal/app -update
	$(GO) test -count=1 -run '^TestReference$$' ./internal/config ./delivery/protocols ./internal/clairconfig -update

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin
