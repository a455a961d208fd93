package e2e

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tocsin.dev/tocsin/schemas"
)

var (
	kills    = flag.Int("e2e.kills", 10, "how often the kill test ends the server")
	killSeed = flag.Uint64("e2e.seed", 0, "seed of the kill test's moments; 0 picks one")
)

// TestKills ends the server ten times at random moments of the run that
// TestFixtures makes, on a Postgres and a JetStream of its own, and checks that
// the reports come out the same and that the events, each id once, add up to
// them.
func TestKills(t *testing.T) {
	t.Parallel()
	dir := needFixtures(t)
	before, after := fixtureStates(dir)
	empty := feedState{"empty", t.TempDir(), beforeTime.AddDate(-1, 0, 0)}
	feeds := newFeedServer(t, empty)
	images := serveImages(t, filepath.Join(dir, "images"))
	want := expectations(t, dir, images)
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("replay with -e2e.seed=%d", seed)

	s := newServer(t, feeds.updaterConfig()+"  schedules: {default: \"@every 2s\"}\n")
	s.start()
	hook := newReceiver(t)
	s.subscribe(hook, "kills")
	for i := range *kills {
		s.survive(t, i, images, random)
		switch {
		case i == *kills/4:
			feeds.advance(before)
		case i == *kills*3/5:
			feeds.advance(after)
		}
	}
	s.waitReports(want, func(e expectation) findings { return rowsOf(e.After) }, "after")
	s.quiet(hook)
	for digest, e := range want {
		// Feeds are loaded while images are indexed: what was known when an
		// image was done is counted in its indexed event, and only what came
		// after that is in changes.
		known := indexedWith(t, hook.all(), digest)
		got, missing := replayChanges(t, hook.all(), digest), 0
		for row := range rowsOf(e.After) {
			if !got[row] {
				missing++
			}
			delete(got, row)
		}
		if missing != known || len(got) > 0 {
			t.Errorf("%s: the events do not add up to the report: %d findings when indexed, %d of the report in no change, beyond the report: %v",
				e.Manifest, known, missing, got)
		}
	}
	t.Logf("%d events in %d deliveries", hook.count(func(received) bool { return true }), len(hook.all()))
}

// indexedWith is how many findings the image's indexed event counts; the image
// must have that event, once.
func indexedWith(t *testing.T, events []received, digest string) int {
	t.Helper()
	byID := map[string]int{}
	for _, e := range events {
		if e.Type != schemas.TypeManifestIndexed || e.Subject != digest {
			continue
		}
		var d schemas.ManifestIndexed
		if err := json.Unmarshal(e.Data, &d); err != nil {
			t.Fatal(err)
		}
		v := d.Vulnerabilities
		byID[e.ID] = v.Unknown + v.Negligible + v.Low + v.Medium + v.High + v.Critical
	}
	if len(byID) != 1 {
		t.Errorf("%s: %d indexed events, want 1", digest, len(byID))
	}
	for _, n := range byID {
		return n
	}
	return 0
}

// survive kills the server after a random time in which it was given work, and
// starts it again unless the next kill should hit it while it starts.
func (s *server) survive(t *testing.T, i int, images []image, random *rand.Rand) {
	t.Helper()
	// The images are published in the first rounds; one whose publication
	// was not acknowledged is published again in the next round.
	if i < len(images) {
		for _, img := range images[:i+1] {
			if err := s.tryPublish("tocsin.manifests", img.job(t)); err != nil {
				t.Logf("round %d: publish: %v", i, err)
			}
		}
	}
	// The moment of the kill is the point of this test, so it is a time.
	time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
	s.kill()
	os.Remove(filepath.Join(s.dir, "data", "run.json"))
	if random.IntN(4) == 0 { // kill it while it starts, too
		if err := s.spawn(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		s.kill()
	}
	s.start()
}
