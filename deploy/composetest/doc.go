// Package composetest proves docker-compose.yml with the machine's Docker
// engine: it brings everything up, publishes an image over NATS from outside,
// lands a feed, sees the event at a webhook, and takes everything down.
//
//	make compose-test      (go test -tags compose ./deploy/composetest)
//
// It needs an engine and, where that cannot pull images, a Debian machine with
// Go and PostgreSQL 15: it then builds stand-ins for the base images from the
// machine's own packages and toolchain, tags them as the files name them, and
// says so. A stand-in does what the files ask of the image and no more. Where
// there is no Compose v2, it builds one from its Go module (compose/go.mod).
//
// It is not part of the ordinary tests: the first run takes minutes.
package composetest
