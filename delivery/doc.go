// Package delivery brings events to subscriptions: the queue, its workers,
// the retry schedule, limits, breakers, dead letters and the record of every
// attempt. How a message goes out is the business of a [Target], one package a
// protocol.
//
// A [Store] is the queue for those who put something in it, list it or have it
// sent again. A [Worker] is one replica that delivers what is in it.
//
// # What it guarantees
//
// At least once: what was committed by [Store.Enqueue] is in tocsin.queue until
// its outcome is in tocsin.delivery, in one transaction. A process that is
// killed at any moment, a database that restarts and a NATS server that loses
// everything turn into delay, or into a repeat of what was in flight, which
// carries the same event id.
//
// Isolation: a subscription's deliveries are its own lane, with its own buffer,
// concurrency, rate limit and breaker, and finding the due ones costs one index
// range a lane however many rows others have waiting. A lane may make one
// attempt at a time whatever the others do; those beyond it come out of a
// budget a replica (Options.Extra).
//
// One owner: a lane belongs to one replica at a time, so that concurrency,
// rate, order and breaker hold over all replicas without a round trip an
// attempt. A replica that does not renew its lease loses its lanes to others;
// what it tries to settle after that is refused.
//
// # What it does not
//
// It does not deliver exactly once. It does not keep the order of events
// unless a subscription is ordered, and then it is the order of event ids
// among those committed: one committed late comes late. A rate limit starts
// anew when a lane changes its replica. Retention never removes what is still
// pending; events that are gone from the log are dropped.
//
// # How it goes
//
//	Enqueue ──► tocsin.queue ──► discover ──► claim lane ──► fetch ──► attempt ──► settle ──► tocsin.delivery
//	                 ▲                                                                │
//	                 └───────────────────── next_attempt_at ◄─────────────────────────┘
//
// Discovery skips through the queue's index, one probe a subscription, on a
// hint, when the earliest delivery becomes due, and every Options.Poll. Rows
// due are fetched for many lanes at a time, events are read and rendered many
// at a time, and the outcomes of all lanes are written many at a time.
//
// # A lane
//
// One goroutine owns a lane and is told everything by messages (messages.go);
// what may be done next is worked out from three parts each time, and never
// remembered:
//
//	window   which deliveries were read, are under attempt, or are being settled
//	gate     whether an attempt may begin now: hold, rate limit, breaker
//	crew     the workers that make attempts, and the replica's budget for them
package delivery
