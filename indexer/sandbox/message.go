package sandbox

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quay/claircore"
)

// Request names the scanner to run over a layer.
type Request struct {
	Kind, Name string
	// Mapping is a file the scanner asked for with [ErrAsk], if it did.
	Mapping string
}

// Result is what one scanner found in one layer: of the four, those of its kind.
type Result struct {
	Packages      []*claircore.Package
	Distributions []*claircore.Distribution
	Repositories  []*claircore.Repository
	Files         []claircore.File
}

// Limits on what a scanner may find. The largest images known have some tens of
// thousands of packages in all their layers.
const (
	maxFound  = 50_000
	maxListed = 1_000_000 // files
	maxResult = 128 << 20 // bytes of a result as it is sent
)

// over reports whether a scanner found more than it may.
func (r Result) over() bool {
	return len(r.Packages)+len(r.Distributions)+len(r.Repositories) > maxFound || len(r.Files) > maxListed
}

// ErrAsk is returned by a scanner that needs the file [Request.Mapping] names.
var ErrAsk = errors.New("a mapping file is needed")

// A FailureKind says what a failed scan means.
type FailureKind int

const (
	// Unreadable: the scanner can't read the layer, and won't another time.
	Unreadable FailureKind = iota + 1
	// Passing: this machine or the network failed, not the layer.
	Passing
	// Panicked: the scanner has a fault that the layer brings out.
	Panicked
	asks
)

// A Failure is the error of a scan that came to its end.
type Failure struct {
	Kind FailureKind
	Text string
	// Stack is where it panicked, for the log.
	Stack string
}

// Error implements error.
func (f *Failure) Error() string { return f.Text }

// Is makes a failure that asks for a mapping file an [ErrAsk].
func (f *Failure) Is(target error) bool { return target == ErrAsk && f.Kind == asks }

// A LostError is the error of a scan that has cost two children their lives.
type LostError struct {
	Reason string // of the second loss, as in "it took longer than 1m0s"
}

// Error implements error.
func (e *LostError) Error() string { return e.Reason }

// What the two processes send each other.
type (
	hello struct {
		Setup  []byte
		Limits Limits
	}
	call struct {
		ID   uint64
		Open *opening // else Scan, or neither to close the layer
		Scan *Request
	}
	// opening announces a layer, whose file comes over the other socket.
	opening struct {
		Digest string
		CPU    time.Duration // what may be used until the next layer
	}
	reply struct {
		ID      uint64 // of the call; 0 says that the layer is open
		Result  Result
		Failure *Failure
	}
)

// budget is a reader that ends with an error when a message is too large.
type budget struct {
	r    io.Reader
	left int64
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("a message is larger than %d bytes", int64(2*maxResult))
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// receiver decodes replies of a bounded size.
type receiver struct {
	in  *budget
	dec *gob.Decoder
}

func newReceiver(r io.Reader) *receiver {
	b := &budget{r: r}
	return &receiver{in: b, dec: gob.NewDecoder(b)}
}

func (r *receiver) next() (reply, error) {
	r.in.left = 2 * maxResult
	var out reply
	err := r.dec.Decode(&out)
	return out, err
}
