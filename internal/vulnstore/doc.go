// Package vulnstore writes update operations into claircore's tables: the
// vulnerabilities of one updater, as they are after one run.
//
// What is stored equals what was given. A row is told apart by a hash of all of
// its fields; claircore's own store leaves some out (the normalized severity,
// the aliases, whether the row says "not affected"), so that a change of those
// alone is lost there. An operation becomes visible whole or not at all, with
// the transaction that the caller commits.
//
// It does not judge what it is given, and does not refresh claircore's view of
// the latest operations: see [RefreshLatest].
package vulnstore
