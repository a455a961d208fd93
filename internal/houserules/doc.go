// Package houserules holds the repository to its own rules by test: what may
// import what and why, a comment for every package, names that say something,
// files of a size that can be read, and SQL that the schema knows.
package houserules
