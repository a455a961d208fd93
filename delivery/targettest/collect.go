package targettest

import (
	"crypto/sha256"
	"time"
)

// Collect calls next until it has returned n messages with distinct bodies,
// or none for ten seconds, and then what is left at once, so that repeats
// show. next answers false when there is nothing at the moment.
func Collect(n int, next func() (Received, bool)) []Received {
	var got []Received
	seen := map[[32]byte]bool{}
	deadline := time.Now().Add(10 * time.Second)
	for {
		m, ok := next()
		switch {
		case ok:
			got = append(got, m)
			seen[sha256.Sum256(m.Body)] = true
			deadline = time.Now().Add(10 * time.Second)
		case len(seen) >= n || time.Now().After(deadline):
			return got
		default:
			time.Sleep(10 * time.Millisecond) // nothing there yet: ask again
		}
	}
}
