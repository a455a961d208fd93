// Package notifier is Tocsin's event log and knows who wants what.
//
// What happens in another package becomes a CloudEvent here, in that package's
// own transaction: the event's row, its place in the outbox towards NATS, and a
// delivery for every subscription whose filters are true of it are written with
// the change they speak of, or not at all. A subscription that was committed
// before that transaction looked is matched by it, on every replica.
//
// It guarantees: an event's id never changes and an event reads the same until
// retention drops it; the events of an update take memory that does not grow
// with their number; credentials are sealed at rest and never returned.
//
// It does not deliver (package delivery does), it does not say what changed
// (package matcher does, and renders it), and it does not order events of
// different transactions: an id that was taken earlier may be committed later.
// A filter that reads the data is tried after the transaction has been
// committed, so that it can't hold up who announces.
package notifier
