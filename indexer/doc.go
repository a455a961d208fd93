// Package indexer is told of container images, indexes them with claircore's
// libindex, and keeps what they are called.
//
// Requests come over NATS, HTTP and the command line, as image references or
// as manifests. Each becomes a row of tocsin.manifest and a job; whoever runs
// the job fetches the layers under the limits of [Limits] and hands claircore's
// report to a [Recorder], which makes it an inventory and an event in one
// transaction. A changed scanner state is noticed at start, and everything an
// older one indexed is indexed again in the background.
//
// Layers are scanned in child processes (package sandbox), so that none of them
// can harm or occupy this one.
//
// It guarantees: a request that was accepted ends in an indexed manifest, or
// in a failed one with a reason and an event, whatever is killed meanwhile. A
// request that cannot be understood is kept as a failed job with its reason.
// Asking again for what is indexed by the present scanners costs no work. While
// an image is indexed again, and when that fails, its last good inventory goes
// on serving. Credentials for layers are stored encrypted at most, until the
// manifest is indexed; those for registries are not stored at all.
//
// It does not match vulnerabilities, and it does not check that a manifest's
// layers are those its digest stands for: a manifest published without its
// registry can't be checked.
package indexer
