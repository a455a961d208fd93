package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// peerSilence is how long the leader of a stream may not have heard of a replica
// before that counts as away. Replicas answer a heartbeat every second.
const peerSilence = 15 * time.Second

// Check reports an error unless every stream has a leader with a quorum of its
// replicas, and a message that is written now is acknowledged: stored, by a
// majority of them. Streams that the server has lost are declared again. It takes
// as long as ctx allows where nobody answers.
func (b *Bus) Check(ctx context.Context) error {
	if !b.nc.IsConnected() {
		return fmt.Errorf("NATS: %s", strings.ToLower(b.nc.Status().String()))
	}
	for _, c := range b.streams.configs() {
		err := b.checkStream(ctx, c.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = b.declare(ctx)
		}
		if err != nil {
			return err
		}
	}
	if _, err := b.js.Publish(ctx, subjectProbe, nil, jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("NATS: a write to stream %s is not acknowledged: %w%s", StreamProbe, err, quorumHint(err))
	}
	return nil
}

// checkStream reports an error unless the stream has a leader that hears a
// majority of its replicas.
func (b *Bus) checkStream(ctx context.Context, name string) error {
	s, err := b.js.Stream(ctx, name) // answered by the leader alone
	if err != nil {
		return fmt.Errorf("NATS: stream %s has no leader that answers: %w%s", name, err, quorumHint(err))
	}
	cluster := s.CachedInfo().Cluster
	if cluster == nil || len(cluster.Replicas) == 0 {
		return nil
	}
	here := 1
	for _, p := range cluster.Replicas {
		if !p.Offline && p.Active < peerSilence {
			here++
		}
	}
	if all := len(cluster.Replicas) + 1; here <= all/2 {
		return fmt.Errorf("NATS: stream %s has no quorum: %d of its %d replicas are there (start the other servers of the cluster)", name, here, all)
	}
	return nil
}

// quorumHint says what a person can do where JetStream does not answer.
func quorumHint(err error) string {
	apiErr, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case ok && apiErr.ErrorCode == 10023, ok && apiErr.ErrorCode == 10047: // insufficient resources, storage resources exceeded
		return " (make room on the disk of the NATS servers, or raise their limit of JetStream)"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, jetstream.ErrNoStreamResponse), ok && apiErr.Code == 503:
		return " (has the cluster of NATS servers lost its quorum? `nats stream report` shows it)"
	}
	return ""
}

// Listeners says how many requests for messages of subject, one of a work queue,
// wait for one, in all processes, how many messages are being handled and how
// many wait for their turn.
func (b *Bus) Listeners(ctx context.Context, subject string) (listening, handling, waiting int, err error) {
	stream := streamOf(subject)
	cons, err := b.js.Consumer(ctx, stream, durable(subject))
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, 0, 0, nil
	}
	if err != nil {
		return 0, 0, 0, fmt.Errorf("NATS: stream %s has no leader that answers: %w%s", stream, err, quorumHint(err))
	}
	i := cons.CachedInfo()
	return i.NumWaiting, i.NumAckPending, int(i.NumPending), nil
}
