// Package httpapi answers Tocsin's own HTTP API under /api/v1, its OpenAPI
// description, and the JSON Schemas of events under /schemas/.
//
// It guarantees: every request but those for public documents carries a token
// with the scope the operation asks for; bodies, headers and times are bounded;
// every error is an RFC 9457 problem that names the field at fault and never
// holds a secret. It keeps no state of its own but the count of bad tokens per
// address. What it answers comes from the services handed to New.
//
//go:generate go test -count=1 -run ^TestOpenAPIDocument$ . -update
package httpapi
