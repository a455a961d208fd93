// Package oracle checks the matcher against claircore itself. From a seed it
// generates image contents of every ecosystem claircore matches and a sequence
// of advisory updates, runs both the engine and libvuln's Scan over them, and
// compares: what the engine's events say an update added, removed and revised
// must be exactly the difference of the Scan reports before and after it.
//
// What it guarantees: the same seed generates the same scenario on every
// machine, and a difference is reported with the manifest, the update, the
// finding and both sides' account of it.
//
// What it does not: it compares verdicts (who has which finding, its severity
// and its fixed-in version), not the prose, links and enrichments around them.
package oracle
