// Package demo shows Tocsin's whole reason to exist in one go, with nothing
// faked: a server of its own, an image built on the spot and published over
// NATS, a vulnerability feed that changes under a cron-driven updater, and the
// signed event that arrives at a webhook.
//
// It guarantees that it checks what it shows (the signature verifies, and what
// the event names is exactly the difference of the reports before and after),
// that everything listens on loopback on free ports, and that nothing is left
// running. It needs the Go toolchain to build the image, and Postgres's
// server programs.
package demo
