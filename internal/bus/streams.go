package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tocsin.dev/tocsin/internal/retry"
)

// Subjects of the contract.
const (
	// SubjectManifests takes manifests to index from anyone, SubjectUpdates
	// requests to run updater sets.
	SubjectManifests = "tocsin.manifests"
	SubjectUpdates   = "tocsin.updates"
	// SubjectJobs, with a kind of job after it, hands jobs to their runners.
	SubjectJobs = "tocsin.jobs."
	// SubjectEvents, with an event type's tail after it, has every event.
	SubjectEvents = "tocsin.events."
)

// Subjects of hints.
const (
	WakeMatcher  = "tocsin.wake.matcher"
	WakeDelivery = "tocsin.wake.delivery"
	WakeOutbox   = "tocsin.wake.outbox"
	WakeJobs     = "tocsin.wake.jobs"
)

// Names of the streams.
const (
	StreamIntake = "TOCSIN_INTAKE"
	StreamJobs   = "TOCSIN_JOBS"
	StreamEvents = "TOCSIN_EVENTS"
	// StreamProbe has one message, which [Bus.Check] writes.
	StreamProbe = "TOCSIN_PROBE"
)

// subjectProbe is what Check publishes to.
const subjectProbe = "tocsin.probe"

// duplicateWindow is how long a stream remembers message ids.
const duplicateWindow = 2 * time.Minute

// declareTimeout bounds one attempt at declaring the streams of a server that
// has just started.
const declareTimeout = 3 * time.Second

// StreamOptions set what depends on the installation. A stream that exists is
// changed to them.
type StreamOptions struct {
	// Replicas of every stream: 1, or 3 or 5 on a cluster.
	Replicas int
	// IntakeMaxBytes bounds what waits to be recorded. A full
	// intake refuses what is published to it.
	IntakeMaxBytes int64
	// JobKinds are the kinds of jobs that have messages; with none, any may. What
	// is published for another kind is refused, since nobody would consume it.
	JobKinds []string
	// JobsMaxBytes bounds the messages of waiting jobs. Beyond
	// it, jobs wait in the database alone until there is room.
	JobsMaxBytes int64
	// EventsMaxBytes and EventsMaxAge bound the events kept for readers of
	// NATS. The oldest go first; the event log in the
	// database has its own retention.
	EventsMaxBytes int64
	EventsMaxAge   time.Duration
}

// DefaultStreams are the options of streams where nothing else is asked for.
func DefaultStreams() StreamOptions {
	return StreamOptions{Replicas: 1, IntakeMaxBytes: 1 << 30, JobsMaxBytes: 256 << 20, EventsMaxBytes: 1 << 30, EventsMaxAge: 7 * 24 * time.Hour}
}

func (o StreamOptions) withDefaults() StreamOptions {
	d := DefaultStreams()
	o.Replicas = cmp.Or(o.Replicas, d.Replicas)
	o.IntakeMaxBytes = cmp.Or(o.IntakeMaxBytes, d.IntakeMaxBytes)
	o.JobsMaxBytes = cmp.Or(o.JobsMaxBytes, d.JobsMaxBytes)
	o.EventsMaxBytes = cmp.Or(o.EventsMaxBytes, d.EventsMaxBytes)
	o.EventsMaxAge = cmp.Or(o.EventsMaxAge, d.EventsMaxAge)
	return o
}

// intakeMessages bounds what waits to be recorded beside its bytes, so that small
// messages do not make for millions.
const intakeMessages = 200_000

func (o StreamOptions) configs() []jetstream.StreamConfig {
	jobs := []string{SubjectJobs + ">"}
	if len(o.JobKinds) > 0 {
		jobs = make([]string, len(o.JobKinds))
		for i, k := range o.JobKinds {
			jobs[i] = SubjectJobs + k
		}
	}
	return []jetstream.StreamConfig{{
		Name:        StreamIntake,
		Description: "what others ask of Tocsin, until it has written it down",
		Subjects:    []string{SubjectManifests, SubjectUpdates},
		Retention:   jetstream.WorkQueuePolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    o.IntakeMaxBytes,
		MaxMsgs:     intakeMessages,
		MaxMsgSize:  MaxPayload,
		Duplicates:  duplicateWindow,
		Replicas:    o.Replicas,
	}, {
		Name:        StreamJobs,
		Description: "jobs on their way to a runner; the table of jobs is the truth",
		Subjects:    jobs,
		Retention:   jetstream.WorkQueuePolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    o.JobsMaxBytes,
		Duplicates:  duplicateWindow,
		Replicas:    o.Replicas,
	}, {
		Name:        StreamEvents,
		Description: "every event, for those who read NATS",
		Subjects:    []string{SubjectEvents + ">"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    o.EventsMaxBytes,
		MaxAge:      o.EventsMaxAge,
		Duplicates:  duplicateWindow,
		Replicas:    o.Replicas,
	}, {
		Name:        StreamProbe,
		Description: "what readiness writes, to see that writes are taken",
		Subjects:    []string{subjectProbe},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxMsgs:     1,
		MaxBytes:    64 << 10,
		Replicas:    o.Replicas,
	}}
}

// declare creates the streams, or changes them to what they should be.
func (b *Bus) declare(ctx context.Context) error {
	for _, c := range b.streams.configs() {
		if _, err := b.js.CreateOrUpdateStream(ctx, c); err != nil {
			return fmt.Errorf("NATS: declare stream %s: %w", c.Name, err)
		}
	}
	return nil
}

// declareWhenReady declares the streams as soon as the server lets it: one that
// has just started may not have JetStream or, on a cluster, a leader yet.
func (b *Bus) declareWhenReady(ctx context.Context) error {
	var answer error // what the server last answered, which tells more than that time is over
	err := retry.Pauses{First: reconnectWait, Most: reconnectWait}.Do(ctx, func() error {
		// A cluster without a leader yet does not answer a request, then or later.
		attempt, cancel := context.WithTimeout(ctx, declareTimeout)
		defer cancel()
		err := b.declare(attempt)
		switch {
		case err == nil:
			return nil
		case answer != nil && errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%w (last answer: %w)", err, answer)
		}
		answer = err
		if errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
			return retry.Permanent(fmt.Errorf("%w (enable JetStream for this account)", err))
		}
		if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok && apiErr.Code == 400 {
			return retry.Permanent(err) // a configuration that the server refuses stays refused
		}
		return err
	})
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		return fmt.Errorf("%w (start nats-server with -js)", err)
	}
	return err
}
