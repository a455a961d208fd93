// Package sandbox runs claircore's scanners in child processes.
//
// What a layer holds is up to whoever made it, and claircore's parsers were not
// written against an enemy: some never end, some recurse until the stack is
// full, some read files of any size into memory, and none looks at its context.
// Here they run in children of the same program that have limits on memory,
// processor time, open files, file sizes and disk, and that are killed when a
// scan takes too long or its caller has gone.
//
// A [Pool] keeps a few children. A [Layer] is handed to one as an open file, and
// all scanners of it share that child as long as it lives. If it is lost, each
// scan that was under way is tried once more in a child of its own; the scan
// that loses that one too is given up with a [LostError] that says why. Nothing
// a child does or leaves behind outlives it: its directory for temporary files
// belongs to the parent, who removes it.
//
// It does not protect against a child that has been taken over by code in a
// layer: no such fault of a Go program is known, but children keep the user and
// the network of their parent.
//
// A program that makes a Pool calls [Main] before anything else.
package sandbox
