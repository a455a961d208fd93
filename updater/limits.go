package updater

import (
	"cmp"
	"errors"
	"time"

	"tocsin.dev/tocsin/internal/problem"
)

// Limits bound what one run may ask of the network, of the disk and of the
// clock. A zero field means its default.
type Limits struct {
	// Response is the most bytes one response may have. Default 1 GiB;
	// responses of a set's discovery get at most 16 MiB.
	Response int64 `json:"response" yaml:"response"`
	// Unpacked is the most bytes a zip archive or a compressed file may
	// unpack to. Default 16 GiB; for rhel-vex four times as much.
	Unpacked int64 `json:"unpacked" yaml:"unpacked"`
	// Entry is the most bytes one member of a zip archive may unpack to: an
	// advisory is decoded in memory. Default 64 MiB.
	Entry int64 `json:"entry" yaml:"entry"`
	// Requests is how many requests one run of a set may make. Default 50,000.
	Requests int64 `json:"requests" yaml:"requests"`
	// Probes is how many of them may be HEAD requests, by which sets discover
	// releases. Default 1,000.
	Probes int64 `json:"probes" yaml:"probes"`
	// Stall is how long a server may send nothing. Default one minute.
	Stall time.Duration `json:"stall" yaml:"stall"`
	// Updater is how long one updater may take. Default one hour.
	Updater time.Duration `json:"updater" yaml:"updater"`
	// Set is how long one run of a set may take. Default four hours.
	Set time.Duration `json:"set" yaml:"set"`
}

// discoveryResponse bounds the lists that a discovery reads into memory.
const discoveryResponse = 16 << 20

// emptyAfter is how many rows an updater must have had for an update to none
// to be taken for a mistake of the feed.
const emptyAfter = 100

func (l Limits) withDefaults(d Limits) Limits {
	l.Response = cmp.Or(l.Response, d.Response)
	l.Unpacked = cmp.Or(l.Unpacked, d.Unpacked)
	l.Entry = cmp.Or(l.Entry, d.Entry)
	l.Requests = cmp.Or(l.Requests, d.Requests)
	l.Probes = cmp.Or(l.Probes, d.Probes)
	l.Stall = cmp.Or(l.Stall, d.Stall)
	l.Updater = cmp.Or(l.Updater, d.Updater)
	l.Set = cmp.Or(l.Set, d.Set)
	return l
}

// Errors that a caller may want to tell apart.
var (
	// ErrUnknownSet says that a name is no updater set.
	ErrUnknownSet = errors.New("no such updater set")
	// ErrDisabledSet says that a set exists but is not configured to run.
	ErrDisabledSet = problem.New(problem.Conflict, "updater set is not enabled")
	// ErrTooLarge says that a response or what it unpacks to is over a limit.
	ErrTooLarge = problem.New(problem.TooLarge, "too large")
	// ErrStalled says that a server stopped sending.
	ErrStalled = errors.New("the server stopped sending")
	// ErrTooManyRequests says that a run asked more often than a discovery
	// that makes sense does.
	ErrTooManyRequests = errors.New("too many requests in one run")
	// ErrUnexpectedStatus says that a server answered a discovery with a
	// status that says neither yes nor no.
	ErrUnexpectedStatus = errors.New("unexpected answer")
	// ErrSuddenlyEmpty says that a feed that had much now has nothing.
	ErrSuddenlyEmpty = errors.New("the feed is suddenly empty")
	// ErrNotArchive says that what should be a zip archive is something else.
	ErrNotArchive = errors.New("not a zip archive")
)
