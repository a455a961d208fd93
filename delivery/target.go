package delivery

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
)

// Message is one event on its way to one subscription. It is shared between
// deliveries of the same event: a target must not change what it points at.
type Message struct {
	// DeliveryID is the row in tocsin.delivery; it differs between replays of
	// one event.
	DeliveryID uuid.UUID
	// EventID is the CloudEvents id: the same over retries and replays, so
	// that a consumer can drop a repeat.
	EventID string
	// Attempt is 1 on the first try.
	Attempt int
	// Event is the CloudEvent; its attributes and Event.Data() are the binary
	// form.
	Event *event.Event
	// Structured is Event in the JSON event format
	// (application/cloudevents+json).
	Structured []byte
}

// Target hands messages to one subscription's sink. The queue keeps it for as
// long as the subscription has work and its version stays the same.
type Target interface {
	// Deliver hands over batch and returns once the far side has taken
	// responsibility for every message of it (a 2xx, a publisher confirm, a
	// receipt) or the attempt has failed. The outcome is that of the whole
	// batch. batch holds one message unless the subscription's content mode
	// is [Batched].
	//
	// Deliver is called concurrently, up to Config.Concurrency at a time and
	// one at a time when Config.Ordered. ctx carries the attempt's timeout
	// (Config.Timeout); Deliver must return soon after ctx ends, with
	// [Classify] of its cause. A target that lost its connection connects
	// again on the next call. Deliver must not retry by itself: the schedule
	// is the queue's.
	Deliver(ctx context.Context, batch []Message) Outcome

	// Close releases connections. It is called once, after the last Deliver
	// has returned, with a context of a few seconds.
	Close(ctx context.Context) error
}

// Limited is a target that knows a rate of its own, such as one its far side
// granted. It applies where it is lower than the subscription's.
type Limited interface {
	// Rate is in attempts a second; 0 means no limit. It is constant.
	Rate() float64
}

// Opener makes targets of one protocol. It is safe for concurrent use.
type Opener interface {
	// Open checks the subscription's settings and returns its target. It need
	// not connect: a target may do so on first use. An error counts as a
	// failed attempt of class [Classify](err); wrap it with [Failed] to name
	// the class. ctx carries the attempt's timeout and ends with it: what the
	// target keeps must not hang on ctx.
	Open(ctx context.Context, sub Subscription) (Target, error)
}

// Outcome is what became of one attempt.
type Outcome struct {
	Class Class
	// Status is the protocol's status code: HTTP's, or AMQP's reply code; 0
	// where there is none.
	Status int
	// Response is the beginning of what the far side answered. The queue keeps
	// at most [SnippetLimit] bytes of it.
	Response string
	// RetryAfter is the pause that the target asked for; 0 if it did
	// not. The queue bounds it, and holds the whole subscription back for it.
	RetryAfter time.Duration
	// Err says what went wrong, for people; nil when delivered. It must not
	// contain credentials.
	Err error
}

// SnippetLimit is how many bytes of a response an attempt keeps.
const SnippetLimit = 1 << 10

// Delivered is the outcome of a success with the given status code.
func Delivered(status int) Outcome { return Outcome{Class: ClassDelivered, Status: status} }

// Failure is the outcome of an attempt that ended in err, classified by
// [Classify].
func Failure(err error) Outcome { return Outcome{Class: Classify(err), Err: err} }
