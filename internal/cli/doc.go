// Package cli is the command line. Commands that look at or change a running
// Tocsin talk to it over HTTP; those that run or set up one are handed in as
// [Actions], so that this package links no engine.
//
// It guarantees: results go to standard output, all else to standard error;
// with --output json standard output is JSON and nothing else; an error says
// what went wrong, where, and what to do next; and the exit codes are those of
// [ExitOK] and the others.
package cli
