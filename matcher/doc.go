// Package matcher works out which images an update of a vulnerability feed
// touches, and how.
//
// For every indexed manifest, what it announces as added, removed and revised
// is the difference between the manifest's vulnerability reports before and
// after one update operation of one updater; two operations between two runs
// are two changes. "Before" is the package's own cursor, which moves in the
// transaction that writes the change, its events and their deliveries: a
// process that dies in between leaves nothing half-written, and the next run
// finds the same.
//
// The verdict of claircore's matchers depends on a vulnerability and an
// occurrence: one package in one set of (distribution, repository) records.
// Images that carry the same package in the same surroundings share it, so
// each pair is judged once, and expanded to manifests in SQL. Constraints come
// from the registered matchers themselves. Processes that share a database
// have the same matchers; one that has others refuses to work.
//
// It does not fetch feeds or images, and it does not send anything: what it
// finds goes to an [Announcer] in the same transaction. Findings of matchers
// that ask a remote service are in reports and never in changes, because no
// update operation says when they change.
package matcher
