// Package listen is a webhook receiver for people: it takes the events that
// Tocsin sends, verifies their signatures, hands them on or forwards them, and
// can say in words what is in them.
//
// It guarantees: with keys, nothing unsigned, wrongly signed or too old is
// received; bodies are bounded; a repeat (same webhook-id) is marked as one. It
// keeps nothing on disk, and what it has acknowledged it may forget: it is for
// looking and trying out, not for production.
package listen
