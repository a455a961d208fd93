package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// fixtures is the folder of real feeds and images that stands beside the
// repository where it is developed. A clone by itself has none.
const fixtures = "../../../shared/fixtures"

func needFixtures(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(fixtures)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "expected")); err != nil {
		if os.Getenv("TOCSIN_NEED_FIXTURES") != "" {
			t.Fatalf("the fixtures must be there: %v", err)
		}
		t.Skip("no fixtures beside this clone")
	}
	return dir
}

var (
	beforeTime = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	afterTime  = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
)

func fixtureStates(dir string) (before, after feedState) {
	return feedState{"before", filepath.Join(dir, "feeds", "before"), beforeTime},
		feedState{"after", filepath.Join(dir, "feeds", "after"), afterTime}
}

func expectations(t *testing.T, dir string, images []image) map[string]expectation {
	t.Helper()
	out := map[string]expectation{}
	for _, i := range images {
		var e expectation
		readJSON(t, filepath.Join(dir, "expected", imageFolder(i)+".json"), &e)
		out[i.Digest] = e
	}
	return out
}

func imageFolder(i image) string {
	name := filepath.Base(i.Name)
	return name[:len(name)-len(":1")]
}

// TestFixtures indexes every real image, loads the feeds in their first state
// and then in their second, through the server's own updaters, and holds every
// report and every event against what claircore itself says.
func TestFixtures(t *testing.T) {
	t.Parallel()
	dir := needFixtures(t)
	before, after := fixtureStates(dir)
	feeds := newFeedServer(t, before)
	images := serveImages(t, filepath.Join(dir, "images"))
	want := expectations(t, dir, images)

	s := newServer(t, feeds.updaterConfig()+"  schedules: {default: \"@every 24h\"}\n")
	s.start()
	hook := newReceiver(t)
	s.subscribe(hook, "fixtures")
	for _, i := range images {
		s.publish("tocsin.manifests", i.job(t))
	}
	s.waitReports(want, func(e expectation) findings { return rowsOf(e.Before) }, "before")
	s.quiet(hook)
	seen := len(hook.all())

	feeds.advance(after)
	s.publish("tocsin.updates", []byte(`{}`))
	s.waitReports(want, func(e expectation) findings { return rowsOf(e.After) }, "after")
	s.quiet(hook)

	for digest, e := range want {
		added, removed := findings{}, findings{}
		for _, ev := range hook.all()[seen:] {
			if ev.Type != schemas.TypeVulnerabilitiesChanged || ev.Subject != digest {
				continue
			}
			var d schemas.VulnerabilitiesChanged
			if err := json.Unmarshal(ev.Data, &d); err != nil {
				t.Fatal(err)
			}
			if d.Update.FirstLoad {
				t.Errorf("%s: the update of %s is called a first load", e.Manifest, d.Update.Updater)
			}
			if d.Counts.Added != len(d.Added) || d.Counts.Removed != len(d.Removed) {
				t.Errorf("%s: counts %+v over lists of %d and %d", e.Manifest, d.Counts, len(d.Added), len(d.Removed))
			}
			for _, f := range d.Added {
				added[findingKey(f)] = true
			}
			for _, f := range d.Removed {
				removed[findingKey(f)] = true
			}
		}
		if diff := added.diff(setOf(e.Added)); diff != "" {
			t.Errorf("%s: added\n%s", e.Manifest, diff)
		}
		if diff := removed.diff(setOf(e.Gone)); diff != "" {
			t.Errorf("%s: removed\n%s", e.Manifest, diff)
		}
	}
}

// subscribe makes a match-all webhook subscription, once, and gives the
// receiver its secret.
func (s *server) subscribe(hook *receiver, key string) {
	s.t.Helper()
	var sub schemas.Subscription
	s.call("POST", "/api/v1/subscriptions", map[string]any{
		"sink": hook.URL, "protocol": "HTTP", "key": key,
		"config": map[string]any{"retry": map[string]any{"schedule": fastRetries()}},
	}, &sub)
	if sub.Secret == "" {
		s.t.Fatal("a new subscription answers no secret")
	}
	hook.mu.Lock()
	hook.secret = sub.Secret
	hook.mu.Unlock()
}

// fastRetries tries every few seconds for a while, so that a test does not
// wait for the default schedule.
func fastRetries() []string {
	out := make([]string, 32)
	for i := range out {
		out[i] = "2s"
	}
	return out
}

func (s *server) waitReports(want map[string]expectation, pick func(expectation) findings, state string) {
	s.t.Helper()
	eventually(s.t, 4*time.Minute, "reports as "+state, func() (bool, string) {
		for _, digest := range slices.Sorted(maps.Keys(want)) {
			got, err := s.report(digest)
			if err != nil {
				return false, err.Error()
			}
			if diff := got.diff(pick(want[digest])); diff != "" {
				return false, fmt.Sprintf("%s:\n%s", digest, tail(diff, 1000))
			}
		}
		return true, ""
	})
}

// quiet waits until no job is under way, no update waits to be told of and
// nothing is owed to anyone.
func (s *server) quiet(hook *receiver) {
	s.t.Helper()
	steady, last := 0, -1
	eventually(s.t, 2*time.Minute, "quiet", func() (bool, string) {
		var stats v1.Stats
		s.call("GET", "/api/v1/stats", nil, &stats)
		n := len(hook.all())
		busy := stats.Jobs["queued"] + stats.Jobs["running"] + stats.Deliveries.Backlog
		if busy > 0 || stats.PendingUpdates > 0 || n != last {
			steady, last = 0, n
			return false, fmt.Sprintf("%d jobs or deliveries, %d updates pending", busy, stats.PendingUpdates)
		}
		steady++
		return steady >= 3, "not steady yet"
	})
}
