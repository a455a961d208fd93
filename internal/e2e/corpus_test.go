package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// knownWrong are the images of the corpus whose report is wrong, and why. A
// change that mends one takes it off the list; an image that is right and on
// the list fails the test, as one that is wrong and not on it does.
var knownWrong = map[string]string{}

// corpusCase is one entry of the corpus's expected.json.
type corpusCase struct {
	Findings []string   // "id package@version": all of them, and no other
	Either   [][]string // of each group, exactly one more
	Coverage string     // "none": no data can speak of the packages
	Why      string
}

// corpusReport is what the command line prints for an image.
type corpusReport struct {
	Vulnerabilities []schemas.Finding
	Coverage        struct{ State string }
}

// TestCorpus indexes small images whose content can be read by eye, through the
// command line, and holds what is said of each against what is in it.
func TestCorpus(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(needFixtures(t), "corpus")
	cases := map[string]corpusCase{}
	readJSON(t, filepath.Join(dir, "expected.json"), &cases)
	feeds := newFeedServer(t, feedState{"corpus", filepath.Join(dir, "feed"), afterTime})
	s := newServer(t, feeds.updaterConfig()+"  schedules: {default: \"@every 24h\"}\n")
	s.start()
	s.feedsLoaded()

	var mu sync.Mutex
	wrong := map[string]string{}
	var wg sync.WaitGroup
	next := make(chan string)
	for range 2 {
		wg.Go(func() {
			for name := range next {
				if why := s.corpusImage(dir, name, cases[name]); why != "" {
					mu.Lock()
					wrong[name] = why
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		next <- name
	}
	close(next)
	wg.Wait()

	for _, name := range slices.Sorted(maps.Keys(cases)) {
		why, isWrong := wrong[name]
		known, isKnown := knownWrong[name]
		switch {
		case isWrong && isKnown:
			t.Logf("%-40s wrong, as is known (%s): %s", name, known, why)
		case isWrong:
			t.Errorf("%-40s WRONG: %s\n  (%s)", name, why, cases[name].Why)
		case isKnown:
			t.Errorf("%-40s is right: take it off knownWrong", name)
		default:
			t.Logf("%-40s right", name)
		}
	}
	t.Logf("%d of %d images are right", len(cases)-len(wrong), len(cases))
}

// feedsLoaded waits until every updater has run once.
func (s *server) feedsLoaded() {
	s.t.Helper()
	eventually(s.t, 2*time.Minute, "feeds loaded", func() (bool, string) {
		var stats v1.Stats
		s.call("GET", "/api/v1/stats", nil, &stats)
		var sets v1.Page[v1.UpdaterSet]
		s.call("GET", "/api/v1/updaters", nil, &sets)
		for _, set := range sets.Items {
			if set.Enabled && (len(set.Updaters) == 0 || set.Running) {
				return false, set.Name + " has not run"
			}
		}
		return stats.Jobs["queued"]+stats.Jobs["running"] == 0 && stats.PendingUpdates == 0, fmt.Sprintf("%+v", stats)
	})
}

// corpusImage indexes one image and returns what is wrong with what is said of
// it.
func (s *server) corpusImage(dir, name string, want corpusCase) string {
	ref := "corpus.example/" + name + ":1"
	var images []v1.Image
	if code, err := s.run(&images, "index", "oci:"+filepath.Join(dir, "images", name), "--name", ref, "--wait"); code != 0 {
		return err
	}
	platforms := map[string]bool{}
	for _, i := range images {
		platforms[i.Labels["platform"]] = true
		var r corpusReport
		if code, err := s.run(&r, "report", i.Digest); code != 0 {
			return err
		}
		if why := want.judge(r); why != "" {
			return why
		}
	}
	if len(images) > 1 && len(platforms) < len(images) && name == "28-variants" {
		return fmt.Sprintf("%d images, but platforms %v", len(images), slices.Sorted(maps.Keys(platforms)))
	}
	if want.Coverage == "none" {
		return s.uncovered(ref, images[0].Digest)
	}
	return ""
}

// judge compares a report with what is in the image.
func (c corpusCase) judge(r corpusReport) string {
	got, want := findings{}, setOf(c.Findings)
	for _, f := range r.Vulnerabilities {
		got[f.ID+" "+f.Package.Name+"@"+f.Package.Version] = true
	}
	var why []string
	for _, group := range c.Either {
		n := 0
		for _, id := range group {
			if got[id] {
				n++
			}
			delete(got, id)
		}
		if n != 1 {
			why = append(why, fmt.Sprintf("%d of %v, which are one", n, group))
		}
	}
	if diff := got.diff(want); diff != "" {
		why = append(why, diff)
	}
	if (c.Coverage == "none") != (r.Coverage.State == "none") {
		why = append(why, fmt.Sprintf("coverage is %q", r.Coverage.State))
	}
	return strings.Join(why, "; ")
}

// uncovered checks that nobody takes an image that no data can speak of for a
// clean one: not who reads the exit code, nor who reads the event.
func (s *server) uncovered(ref, digest string) string {
	if code, _ := s.run(nil, "report", ref, "--fail-on", "critical"); code != 3 {
		return fmt.Sprintf("report --fail-on exits %d, not 3", code)
	}
	if code, err := s.run(nil, "report", ref, "--fail-on", "critical", "--allow-unknown"); code != 0 {
		return fmt.Sprintf("report --fail-on --allow-unknown exits %d, not 0: %s", code, err)
	}
	var events []struct{ Type, Coverage string }
	if code, err := s.run(&events, "events", "list", "--digest", digest); code != 0 {
		return err
	}
	for _, e := range events {
		if e.Type == schemas.TypeManifestIndexed && e.Coverage == "none" {
			return ""
		}
	}
	return fmt.Sprintf("no indexed event says so: %+v", events)
}

// run runs the command line against the server and decodes what it prints.
func (s *server) run(into any, args ...string) (code int, stderr string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, append([]string{"-o", "json"}, args...)...)
	cmd.Env = append(os.Environ(), "TOCSIN_DATA_DIR="+filepath.Join(s.dir, "data"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return -1, fmt.Sprintf("%v: no answer within a minute: %s", args, errs.String())
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode(), strings.TrimSpace(errs.String())
		}
		return -1, err.Error()
	}
	if into != nil {
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			return -1, fmt.Sprintf("%v: %v: %s", args, err, tail(out.String(), 500))
		}
	}
	return 0, ""
}
