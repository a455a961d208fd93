// Package access keeps the API tokens: who may do what, and whose
// subscriptions they see; and the audit log: who did what.
//
// It guarantees that a token's secret is never stored, only its SHA-256: a
// token carries 256 random bits, so that a slow hash would protect nothing. A
// revoked or expired token is refused at once, by every process. It does not
// know HTTP, and does not count failed attempts.
package access
