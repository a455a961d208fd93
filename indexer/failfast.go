package indexer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// failFastFor is how long a host that could not be reached is left alone.
const failFastFor = time.Minute

// failFast refuses requests to hosts that could not be reached a moment ago,
// so that an installation without internet does not wait for each of them.
type failFast struct {
	next http.RoundTripper

	mu   sync.Mutex
	down map[string]downHost
}

type downHost struct {
	since time.Time
	err   error
}

// RoundTrip implements [http.RoundTripper].
func (f *failFast) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	f.mu.Lock()
	d, ok := f.down[host]
	f.mu.Unlock()
	if ok && time.Since(d.since) < failFastFor {
		return nil, fmt.Errorf("%s was not reachable a moment ago: %w", host, d.err)
	}
	resp, err := f.next.RoundTrip(req)
	if errors.Is(err, context.Canceled) {
		return nil, err // says nothing about the host
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.down, host)
		return resp, nil
	}
	if f.down == nil {
		f.down = map[string]downHost{}
	}
	f.down[host] = downHost{time.Now(), err}
	return nil, err
}
