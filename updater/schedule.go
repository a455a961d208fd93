package updater

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	// DefaultSchedule is when a set runs that has no schedule of its own.
	DefaultSchedule = "@every 6h"
	// Off is the schedule of a set that runs on demand only.
	Off = "off"

	// A run starts up to a tenth of its interval late, and never more than
	// maxJitter, so that sets and installations do not all ask at once.
	jitterShare = 10
	maxJitter   = 10 * time.Minute

	// A failed set is tried again after retryFirst, then twice that, and so
	// on up to retryMost, unless its schedule comes first.
	retryFirst = 5 * time.Minute
	retryMost  = 2 * time.Hour
)

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// parseSchedule reads "off", "@every 6h", "@daily", or five cron fields, which
// are in UTC unless they start with CRON_TZ=. The schedule of "off" is nil.
func parseSchedule(spec string) (cron.Schedule, error) {
	if spec == Off {
		return nil, nil
	}
	s, err := parser.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("%q: %w (want \"@every 6h\", five cron fields like \"30 3 * * *\", or \"off\")", spec, err)
	}
	if s.Next(time.Unix(0, 0).UTC()).IsZero() {
		return nil, fmt.Errorf("%q never comes", spec)
	}
	return s, nil
}

// parseSchedules gives every set its schedule: its own, else "default", else
// [DefaultSchedule].
func parseSchedules(specs map[string]string, sets, known []Set) (map[string]cron.Schedule, error) {
	fallback := DefaultSchedule
	if spec, ok := specs["default"]; ok {
		fallback = spec
	}
	out := make(map[string]cron.Schedule, len(sets))
	var err error
	for _, s := range sets {
		if out[s.Name], err = parseSchedule(fallback); err != nil {
			return nil, fmt.Errorf("updaters.schedules.default: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		if name == "default" {
			continue
		}
		one, err := choose(known, []string{name})
		if err != nil {
			return nil, fmt.Errorf("updaters.schedules: %w", err)
		}
		schedule, err := parseSchedule(specs[name])
		if err != nil {
			return nil, fmt.Errorf("updaters.schedules.%s: %w", name, err)
		}
		if _, ok := out[one[0].Name]; ok {
			out[one[0].Name] = schedule
		}
	}
	return out, nil
}

// lastRun is what the schedule needs to know of a set's last run.
type lastRun struct {
	started  time.Time // zero: never
	failures int       // in a row; 0 after a success
}

// next returns when a set is due: at once if it never ran, else at its
// schedule's next time after the last start and a jitter, or earlier if the last
// run failed. It depends on its arguments alone, so that all replicas agree and
// a restart changes nothing. It reports false if the set runs on demand only.
func next(set string, schedule cron.Schedule, last lastRun) (time.Time, bool) {
	if schedule == nil {
		return time.Time{}, false
	}
	if last.started.IsZero() {
		return time.Time{}, true
	}
	started := last.started.UTC()
	due := schedule.Next(started)
	if every, ok := schedule.(cron.ConstantDelaySchedule); ok {
		// cron rounds down to whole seconds.
		due = started.Add(every.Delay)
	}
	if due.IsZero() {
		return time.Time{}, false
	}
	due = due.Add(jitter(set, started, due.Sub(started)))
	if last.failures > 0 {
		if again := started.Add(backoff(last.failures)); again.Before(due) {
			return again, true
		}
	}
	return due, true
}

// jitter is a delay that is different for every set and run, and the same on
// every replica.
func jitter(set string, started time.Time, interval time.Duration) time.Duration {
	most := min(interval/jitterShare, maxJitter)
	if most <= 0 {
		return 0
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", set, started.UnixMicro())
	return time.Duration(h.Sum64() % uint64(most))
}

func backoff(failures int) time.Duration {
	d := retryFirst
	for range failures - 1 {
		if d *= 2; d >= retryMost {
			return retryMost
		}
	}
	return d
}
