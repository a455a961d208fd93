// Package clairconfig translates a configuration of Clair 4 into one of Tocsin,
// and into the subscriptions that Clair keeps in its configuration.
//
// Every key that Clair 4.9 knows is in one table, with what becomes of it or why
// nothing does. A key that Clair does not know is said, not guessed at. The
// package reads no files, and does not check what it makes: that is what package
// config is for.
package clairconfig
