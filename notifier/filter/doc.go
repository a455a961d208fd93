// Package filter compiles and evaluates the filters of subscriptions: the
// dialects exact, prefix, suffix, all, any, not and sql of the CloudEvents
// Subscriptions API, and cel, which reaches into an event's data.
//
// It guarantees that compiling and evaluating end in bounded time and memory
// whatever the expression: length, nesting and size are limited before a
// parser sees it, and cel runs under a cost limit and a time limit. What does
// not compile is refused with a JSON pointer and a position. A filter whose
// evaluation fails, as on an attribute that the event does not have, is not
// true.
//
// It does not read the database: an event's data is handed in, and a [Set]
// says with NeedsData whether it has to be.
package filter
