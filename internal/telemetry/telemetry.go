// Package telemetry is how Tocsin shows what it does: logs, metrics, health and
// profiles.
//
// It guarantees that what looks like a secret in a log attribute is replaced, and
// that readiness says no as soon as the process begins to stop. It sends nothing
// anywhere.
package telemetry
