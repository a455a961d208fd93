package updater

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNext(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name     string
		spec     string
		last     lastRun
		earliest time.Time
		latest   time.Time
		never    bool
	}{
		{name: "never run is due at once", spec: "@every 6h"},
		{name: "never run is due at once, whatever cron says", spec: "0 3 1 1 *"},
		{name: "interval counts from the start", spec: "@every 6h", last: lastRun{started: noon}, earliest: noon.Add(6 * time.Hour), latest: noon.Add(6*time.Hour + 10*time.Minute)},
		{name: "short interval has little jitter", spec: "@every 10s", last: lastRun{started: noon}, earliest: noon.Add(10 * time.Second), latest: noon.Add(11 * time.Second)},
		{name: "cron is in UTC", spec: "30 3 * * *", last: lastRun{started: noon.In(time.FixedZone("", 9*3600))}, earliest: noon.Add(15*time.Hour + 30*time.Minute), latest: noon.Add(15*time.Hour + 40*time.Minute)},
		{name: "failed is tried again soon", spec: "@every 6h", last: lastRun{started: noon, failures: 1}, earliest: noon.Add(5 * time.Minute), latest: noon.Add(5 * time.Minute)},
		{name: "and then later", spec: "@every 6h", last: lastRun{started: noon, failures: 3}, earliest: noon.Add(20 * time.Minute), latest: noon.Add(20 * time.Minute)},
		{name: "and at most after two hours", spec: "@every 6h", last: lastRun{started: noon, failures: 300}, earliest: noon.Add(2 * time.Hour), latest: noon.Add(2 * time.Hour)},
		{name: "but not later than scheduled", spec: "@every 1m", last: lastRun{started: noon, failures: 9}, earliest: noon.Add(time.Minute), latest: noon.Add(66 * time.Second)},
		{name: "off", spec: "off", last: lastRun{started: noon}, never: true},
		{name: "off and never run", spec: "off", never: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := parseSchedule(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := next("osv", s, tt.last)
			if ok == tt.never {
				t.Fatalf("next reports %v, want %v", ok, !tt.never)
			}
			if got.Before(tt.earliest) || got.After(tt.latest) {
				t.Errorf("next is %v, want from %v to %v", got, tt.earliest, tt.latest)
			}
		})
	}
}

// TestNextOverdue: what was missed while nothing ran is due at once, since the
// next time is counted from the last start and not from now.
func TestNextOverdue(t *testing.T) {
	t.Parallel()
	s, err := parseSchedule("0 3 * * *")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	due, ok := next("osv", s, lastRun{started: now.Add(-48 * time.Hour)})
	if !ok || !due.Before(now) {
		t.Errorf("a set that missed two nights is due %v (%v), want before %v", due, ok, now)
	}
}

func TestNextProperties(t *testing.T) {
	t.Parallel()
	specs := []string{"@every 1s", "@every 90s", "@every 6h", "@daily", "17 4 * * 1-5", "CRON_TZ=Asia/Tokyo 0 9 * * *"}
	rapid.Check(t, func(t *rapid.T) {
		s, err := parseSchedule(rapid.SampledFrom(specs).Draw(t, "spec"))
		if err != nil {
			t.Fatal(err)
		}
		last := lastRun{
			started:  time.UnixMicro(rapid.Int64Range(1.7e15, 1.9e15).Draw(t, "started")),
			failures: rapid.IntRange(0, 40).Draw(t, "failures"),
		}
		set := rapid.SampledFrom([]string{"osv", "debian"}).Draw(t, "set")
		a, _ := next(set, s, last)
		b, _ := next(set, s, lastRun{started: last.started.UTC(), failures: last.failures})
		if !a.Equal(b) {
			t.Fatalf("two replicas disagree: %v, %v", a, b)
		}
		if !a.After(last.started) {
			t.Fatalf("due %v, not after the start %v", a, last.started)
		}
		healthy, _ := next(set, s, lastRun{started: last.started})
		if a.After(healthy) {
			t.Fatalf("after failures due %v, later than without: %v", a, healthy)
		}
	})
}

func TestParseSchedules(t *testing.T) {
	t.Parallel()
	all := Sets()
	tests := []struct {
		specs map[string]string
		err   string
	}{
		{specs: nil},
		{specs: map[string]string{"default": "@every 6h", "osv": "@every 1h", "clair.kev": "15 * * * *"}},
		{specs: map[string]string{"osv": "hourly"}, err: "updaters.schedules.osv"},
		{specs: map[string]string{"osv": "61 * * * *"}, err: "updaters.schedules.osv"},
		{specs: map[string]string{"default": "0 0 30 2 *"}, err: "never comes"},
		{specs: map[string]string{"osw": "@daily"}, err: `no such updater set: "osw"`},
		{specs: map[string]string{"osv": ""}, err: "updaters.schedules.osv"},
	}
	for _, tt := range tests {
		got, err := parseSchedules(tt.specs, all, all)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("parseSchedules(%v): error %v, want one with %q", tt.specs, err, tt.err)
		}
		if err == nil && len(got) != len(all) {
			t.Errorf("parseSchedules(%v) has %d schedules for %d sets", tt.specs, len(got), len(all))
		}
	}
}

func TestFailing(t *testing.T) {
	t.Parallel()
	var (
		f         failing
		start     = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		announced []time.Duration
		announce  bool
	)
	// Every five hours for three days, with one success after two.
	for at := time.Duration(0); at < 72*time.Hour; at += 5 * time.Hour {
		if f, announce = f.after(at != 50*time.Hour, start.Add(at)); announce {
			announced = append(announced, at)
		}
	}
	want := []time.Duration{0, 25 * time.Hour, 55 * time.Hour}
	if diff := cmp.Diff(want, announced); diff != "" {
		t.Errorf("announced at (-want +got):\n%s", diff)
	}
	if f.count != 4 || !f.since.Equal(start.Add(55*time.Hour)) {
		t.Errorf("failing %d times since %v, want 4 since the success", f.count, f.since)
	}
}
