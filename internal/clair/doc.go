// Package clair answers Clair v4's HTTP API, so that Quay, clairctl and
// whatever else talks to Clair works against Tocsin unchanged.
//
// It guarantees Clair's paths, status codes, headers, media types and JSON as
// its clients need them, written with types of its own, so that no field of
// the engine's types reaches the wire unnoticed. It departs from Clair where
// Clair's behaviour is a fault and no client leans on it:
//
//   - lists and maps are never null;
//   - a state that matches If-None-Match answers 304 or 412 only for a manifest
//     that is indexed, never for an unknown one;
//   - the limit on concurrent indexing covers indexing alone, and its 429
//     carries Retry-After;
//   - an unsupported Accept answers 415 as a complete JSON error;
//   - deleting an unknown notification is 404, not 500; a page size out of
//     bounds is 400;
//   - request bodies are bounded.
//
// It does not index, match or store: that is behind the three interfaces, which
// [Images], [Feeds] and [Notices] answer with Tocsin's roles.
package clair
