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

	// before is what scanners of the present versions could not read of the
	// manifest's layers a while ago.
	before map[layerScan]unread

	mu       sync.Mutex
	notes    map[layerScan]unread          // what they could not read now
	scanned  map[layerScan]bool            // what they were asked to read
	given    int                           // scans given up
	lost     error                         // why the lock was lost or not taken
	degraded map[scannerOf]string          // what a scanner could not see, and why
	layers   map[string]map[scannerOf]bool // by digest
	diffs    map[string]string             // what fetched layers unpack to, by digest
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

// layerScan is a scanner and a layer, by its digest.
type layerScan struct {
	scannerOf
	layer string
}

// unread says what a scanner could not read of a layer.
type unread struct {
	Version string
	// Whole says that it read nothing of the layer; else the reason says what
	// it left out.
	Whole  bool
	Reason string
}

// knownUnread reports whether the scan of a layer need not be tried, since it
// failed for good not long ago, and notes that again.
func (a *attempt) knownUnread(s indexer.VersionedScanner, layer string) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	k := layerScan{scannerKey(s), layer}
	if a.scanned == nil {
		a.scanned = map[layerScan]bool{}
	}
	u, ok := a.before[k]
	if !ok || !u.Whole {
		a.scanned[k] = true
		return false
	}
	return true
}

// unread notes what a scanner could not read of a layer.
func (a *attempt) unread(s indexer.VersionedScanner, layer string, whole bool, reason string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.notes == nil {
		a.notes = map[layerScan]unread{}
	}
	a.notes[layerScan{scannerKey(s), layer}] = unread{Version: s.Version(), Whole: whole, Reason: reason}
}

// unreadOn reports whether the scanner could read nothing of the layer.
func (a *attempt) unreadOn(s indexer.VersionedScanner, layer string) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	k := layerScan{scannerKey(s), layer}
	return a.notes[k].Whole || a.before[k].Whole && !a.scanned[k]
}

// maxGiven is how many scans of one manifest may be given up before it is.
const maxGiven = 64

// giveUp notes a scan that was given up. Its error is for a manifest that has
// had too many.
func (a *attempt) giveUp(s indexer.VersionedScanner, layer, reason string) error {
	a.unread(s, layer, true, "given up: "+reason)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given++; a.given > maxGiven {
		return &hostileError{layer: layer, reason: reason}
	}
	return nil
}

// hostileError is the error of a manifest that costs too much to scan.
type hostileError struct{ layer, reason string }

// Error implements error.
func (e *hostileError) Error() string {
	return fmt.Sprintf("more than %d scans of its layers had to be given up; of the last, of layer %s: %s", maxGiven, e.layer, e.reason)
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
