// Package updater keeps the vulnerability data current: it runs claircore's
// updaters, set by set, on a schedule and on demand.
//
// A set is what claircore calls an updater set: one publisher's data, made of
// one or more updaters ("osv" has one per ecosystem). Every run of a set is a
// job of kind "update" keyed by the set, so that one runs at a time whatever
// the number of replicas; when it was last started, and what every updater of
// it last did, are rows of tocsin.updater_run.
//
// What it guarantees:
//
//   - Factories, and what bounds their requests, are built afresh for every run.
//     No answer of a server in one run (such as a 304 on an index) can keep a
//     later one from asking.
//   - An updater that fails, hangs, panics or is fed garbage harms neither the
//     other updaters of its set nor the other sets. Its previous data stay, its
//     row has the reason, and the failure is announced.
//   - An update is stored whole or not at all, also when the process is killed,
//     and [Waker.Wake] follows every stored operation. A process killed between
//     the two leaves an operation behind that the matcher's own sweep finds.
//   - No request, response, archive or run is unbounded: see [Limits].
//   - A discovery that met errors fails the set even where claircore would go
//     on with the part that it could see.
//
// What it does not: it does not judge advisories. claircore parses a feed as a
// whole, so one malformed advisory fails its updater (one ecosystem of OSV, one
// release of Alpine), visibly, and the data of the last good run stay in use.
// It does not remove update operations; their retention is the matcher's.
package updater
