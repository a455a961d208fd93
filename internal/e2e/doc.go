// Package e2e holds the tests that run the real binary from outside: a child
// process of `tocsin serve`, a static feed server, real images, NATS and
// webhooks.
//
// The tests on the shared fixtures are skipped where the fixtures are absent;
// everything else needs only Postgres and Go.
package e2e
