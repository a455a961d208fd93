// Package eventlog is the log of events: every CloudEvent that Tocsin has
// written, until retention drops it.
//
// A [Writer] writes an event in the transaction of the change it is about, together
// with its place in the outbox towards NATS. A [Log] reads events with their
// data, lists them, publishes the outbox and keeps the partitions.
//
// It guarantees: an event's id never changes, and an event reads the same until
// retention drops it; an event that can't be read holds no other up; the
// messages of the outbox are published at least once, each under the event's id.
//
// It does not decide who wants an event (package notifier does), and it does
// not order the events of different transactions: an id that was taken earlier
// may be committed later.
package eventlog
