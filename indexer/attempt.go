package indexer

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/quay/claircore/indexer"
)

// attempt is one attempt at one manifest. It travels in the context through
// claircore to the pieces of ours that claircore calls.
type attempt struct {
	// login returns the client for layers that are in a registry. It asks the
	// registry when it is first called. Nil if they are not.
	login func() (*http.Client, error)
	// keepReport says that a finished index report is in store, which must go
	// on being served until the new one is finished, or for good if it fails.
	keepReport bool

	mu       sync.Mutex
	lost     error                         // why the lock was lost or not taken
	degraded map[scannerOf]string          // what a scanner could not see, and why
	layers   map[string]map[scannerOf]bool // by digest
}

// scannerOf identifies a scanner as claircore does.
type scannerOf struct{ name, kind string }

func scannerKey(s indexer.VersionedScanner) scannerOf { return scannerOf{s.Name(), s.Kind()} }

type attemptKey struct{}

func withAttempt(ctx context.Context, a *attempt) context.Context {
	return context.WithValue(ctx, attemptKey{}, a)
}

func attemptFrom(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// degrade notes that a scanner could not do its work on a layer. The layer is
// then not marked as scanned by it, so that a later index run makes up for it.
func (a *attempt) degrade(s indexer.VersionedScanner, layer, why string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.degraded == nil {
		a.degraded, a.layers = map[scannerOf]string{}, map[string]map[scannerOf]bool{}
	}
	k := scannerKey(s)
	a.degraded[k] = why
	if a.layers[layer] == nil {
		a.layers[layer] = map[scannerOf]bool{}
	}
	a.layers[layer][k] = true
}

// degradedOn reports whether the scanner failed the layer; any layer if layer
// is empty.
func (a *attempt) degradedOn(s indexer.VersionedScanner, layer string) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if layer == "" {
		_, ok := a.degraded[scannerKey(s)]
		return ok
	}
	return a.layers[layer][scannerKey(s)]
}

// warnings are what a person should know about the result.
func (a *attempt) warnings() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for s, why := range a.degraded {
		out = append(out, fmt.Sprintf("%s: %s", s.name, why))
	}
	slices.Sort(out)
	return out
}

func (a *attempt) lose(err error) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lost == nil {
		a.lost = err
	}
}

func (a *attempt) lockError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost
}
