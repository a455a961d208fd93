// Package delivery brings events to subscriptions: the queue, its workers,
// the retry schedule, limits, breakers, dead letters and the record of every
// attempt.
package delivery
