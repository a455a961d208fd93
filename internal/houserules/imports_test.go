package houserules_test

import (
	"slices"
	"strings"
	"testing"
)

// A rule forbids packages to import others.
type rule struct {
	from   []string // these directories and all below
	except []string // but not these
	to     []string // must not import these directories, or import paths, and all below
	allow  []string // but may these
	reason string
}

var (
	domain = []string{"indexer", "updater", "matcher", "notifier", "delivery"}
	// faces translate between the roles and clients over HTTP.
	faces = []string{"internal/api", "internal/clair", "internal/web"}
	// programs put everything together, or measure and test what was put together.
	programs = []string{"cmd", "internal/app", "internal/cli", "internal/demo", "internal/e2e", "internal/tools"}
)

func rules(protocols []string) []rule {
	rules := []rule{{
		to: []string{"cmd"}, from: []string{"."},
		reason: "main is flags, signals and an exit code; everything else is importable",
	}, {
		from: []string{"."}, except: append([]string{"matcher/oracle"}, programs...), to: []string{"internal/app"},
		reason: "the composition root knows everyone, so nobody may know it",
	}, {
		from: []string{"schemas"}, except: []string{"schemas/internal"}, to: []string{"."}, allow: []string{"schemas"},
		reason: "the vocabulary is shared by packages that must not know each other",
	}, {
		from: []string{"internal"}, except: append(faces, programs...), to: domain, allow: nil,
		reason: "infrastructure serves the domain packages and does not know them",
	}, {
		from: []string{"."}, except: programs, to: faces,
		reason: "a face translates the roles for its clients; no role may need one",
	}, {
		from: []string{"internal/config"}, to: []string{"."}, allow: []string{"internal/config", "internal/text"},
		reason: "configuration holds values; whoever takes them converts them",
	}, {
		from: []string{"delivery", "internal/bus", "internal/jobs", "internal/safehttp", "internal/config"}, to: []string{"github.com/quay/claircore"},
		reason: "what carries things knows nothing of vulnerabilities, and links without claircore",
	}, {
		from: []string{"."}, except: append([]string{"internal/bus", "delivery/nats", "delivery/targettest", "deploy"}, programs...),
		to:     []string{"github.com/nats-io"},
		reason: "NATS is reached through internal/bus, which owns its guarantees",
	}}
	for _, d := range domain {
		var others []string
		for _, o := range domain {
			if o != d {
				others = append(others, o)
			}
		}
		rules = append(rules, rule{
			from: []string{d}, to: others,
			reason: "the domain packages meet through rows and small interfaces of their own, wired in internal/app",
		})
	}
	for _, p := range protocols {
		var others []string
		for _, o := range protocols {
			if o != p {
				others = append(others, o)
			}
		}
		rules = append(rules, rule{from: []string{p}, to: others, reason: "a protocol must be removable without touching another"})
	}
	return append(rules, rule{
		from: []string{"delivery"}, except: append([]string{protocolList, "delivery/broker", "delivery/targettest"}, protocols...),
		to:     append([]string{protocolList}, protocols...),
		reason: "the queue knows targets by interface; protocols are listed in delivery/protocols and plugged in by internal/app",
	})
}

// protocolList is the package that lists the protocols.
const protocolList = "delivery/protocols"

// protocolPackages are the packages that the list imports from delivery.
func protocolPackages(t *testing.T, files []source) []string {
	t.Helper()
	var out []string
	for _, f := range files {
		if f.dir != protocolList || f.test {
			continue
		}
		for _, spec := range f.file.Imports {
			dir, own := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module+"/")
			if own && strings.HasPrefix(dir, "delivery/") && !slices.Contains(out, dir) {
				out = append(out, dir)
			}
		}
	}
	if len(out) < 4 {
		t.Fatalf("only %v are listed in %s", out, protocolList)
	}
	return out
}

func TestImports(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	rules := rules(protocolPackages(t, files))
	for _, f := range files {
		if f.test {
			continue
		}
		for _, spec := range f.file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			for _, r := range rules {
				if r.forbids(f.dir, path) {
					t.Errorf("%s must not import %s: %s", f.path, path, r.reason)
				}
			}
		}
	}
}

func (r rule) forbids(dir, path string) bool {
	if !any(dir, r.from) || any(dir, r.except) {
		return false
	}
	target, own := strings.CutPrefix(path, module+"/")
	for _, to := range r.to {
		switch {
		case strings.Contains(to, "."+"com/"):
			if under(path, to) {
				return true
			}
		case own && (to == "." || under(target, to)) && !any(target, r.allow):
			return true
		}
	}
	return false
}

func any(dir string, parents []string) bool {
	for _, p := range parents {
		if p == "." || under(dir, p) {
			return true
		}
	}
	return false
}

// What only tests need must not reach the program.
func TestTestSupportStaysOut(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	support := func(dir string) bool {
		for part := range strings.SplitSeq(dir, "/") {
			if strings.HasSuffix(part, "test") {
				return true
			}
		}
		return false
	}
	for _, f := range files {
		if f.test || support(f.dir) || any(f.dir, []string{"matcher/oracle", "internal/tools"}) {
			continue
		}
		for _, spec := range f.file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if target, own := strings.CutPrefix(path, module+"/"); own && support(target) || path == "testing" {
				t.Errorf("%s must not import %s: it is for tests", f.path, path)
			}
		}
	}
}

// The rules can fail.
func TestRulesForbid(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	rules := rules(protocolPackages(t, files))
	for _, c := range []struct {
		dir, path string
		forbidden bool
	}{
		{"indexer", module + "/matcher", true},
		{"indexer/blobs", module + "/delivery/webhook", true},
		{"indexer", module + "/indexer/blobs", false},
		{"delivery/amqp", module + "/delivery/stomp", true},
		{"delivery/amqp", module + "/delivery", false},
		{"delivery", module + "/delivery/amqp", true},
		{"delivery", module + "/delivery/protocols", true},
		{"delivery/protocols", module + "/delivery/amqp", false},
		{"notifier", module + "/delivery/protocols", true},
		{"internal/bus", module + "/updater", true},
		{"internal/app", module + "/updater", false},
		{"internal/api", module + "/updater", false},
		{"internal/httpapi", module + "/updater", true},
		{"internal/clair", module + "/internal/api", true},
		{"notifier", module + "/internal/clair", true},
		{"internal/config", module + "/internal/bus", true},
		{"delivery", "github.com/quay/claircore/libvuln", true},
		{"matcher", "github.com/quay/claircore/libvuln", false},
		{"notifier", "github.com/nats-io/nats.go", true},
		{"internal/bus", "github.com/nats-io/nats.go/jetstream", false},
		{"schemas", module + "/internal/bus", true},
	} {
		got := false
		for _, r := range rules {
			got = got || r.forbids(c.dir, c.path)
		}
		if got != c.forbidden {
			t.Errorf("%s importing %s: forbidden %v, want %v", c.dir, c.path, got, c.forbidden)
		}
	}
}
