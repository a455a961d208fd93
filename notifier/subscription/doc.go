// Package subscription keeps the subscriptions: who wants which events, where
// they are to be sent, and with which secrets.
//
// It guarantees: a subscription that is stored was valid when it was stored,
// and what was wrong with one that was refused is said in full, field by field;
// secrets are sealed at rest, each to its row, and never returned, except that
// one which the server made is in the answer that made it.
//
// It does not match events (package notifier does) and does not send them
// (package delivery does, which gets sinks and secrets as [Store.Targets]).
package subscription
