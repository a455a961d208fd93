// Package notifier decides who wants which event.
//
// What happens in another package becomes a CloudEvent here, in that package's
// own transaction ([Announcer]): the event, its place in the outbox towards
// NATS, and a delivery for every subscription whose filters it passes are
// committed with the change that the event is about, or not at all. A subscription that
// was committed before that transaction read the subscriptions is matched by
// it, on every replica.
//
// A filter that reads the data is tried after the transaction has been
// committed ([Notifier]), so that it can't hold the transaction up.
//
// It guarantees that the events of an update take memory that does not grow
// with their number.
//
// It does not keep events (package eventlog does) or subscriptions (package
// subscription does), it does not deliver (package delivery does), and it does
// not say what changed (package matcher does, and renders it).
package notifier
