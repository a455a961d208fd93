// Package ecosystem says what is installed in an image, as claircore's
// scanners find it layer by layer and as a file system made of the layers would
// have it.
//
// claircore's own coalescers and its whiteout resolver keep one path a package
// and know no link, so that they drop what is still there and keep what is not.
// Here a [Files] scanner records what every layer does to the file system; a
// package that a scanner found in a layer counts if, with all layers applied,
// the file it was found in is still that layer's. Scanners of its own stand in
// for claircore's dpkg, distroless, apk and distribution scanners, which miss
// packages; docs/deviations.md lists the differences.
package ecosystem
