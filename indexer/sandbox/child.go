package sandbox

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/quay/claircore"
)

// childEnv is set in the environment of children.
const childEnv = "TOCSIN_SCAN_CHILD"

// Descriptors a child is born with.
const (
	callsFD = 3 // calls and replies
	filesFD = 4 // layers
)

// A Scanner runs the scanner a request names over a layer.
type Scanner func(context.Context, Request, *claircore.Layer) (Result, error)

// called says that the program can be its own child. Without it, a test binary
// whose TestMain lacks the call would run all its tests in every child.
var called atomic.Bool

// Main is the first call of a program that makes a [Pool]. In an ordinary
// process it returns at once. In a child it makes a scanner of the pool's setup,
// serves the parent until that ends, and exits.
func Main(build func(ctx context.Context, setup []byte) (Scanner, error)) {
	if os.Getenv(childEnv) == "" {
		called.Store(true)
		return
	}
	if err := serve(build); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve answers the parent's calls until there are no more.
func serve(build func(context.Context, []byte) (Scanner, error)) error {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	calls, err := inherited(callsFD)
	if err != nil {
		return err
	}
	files, err := inherited(filesFD)
	if err != nil {
		return err
	}
	dec := gob.NewDecoder(calls)
	var h hello
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("the parent has gone: %w", err)
	}
	if err := confine(h.Limits); err != nil {
		return err
	}
	debug.SetMaxStack(maxStack)
	debug.SetMemoryLimit(h.Limits.Memory)
	scan, err := build(context.Background(), h.Setup)
	if err != nil {
		return err
	}
	c := &child{scan: scan, files: files, enc: gob.NewEncoder(calls)}
	for {
		var next call
		switch err := dec.Decode(&next); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		c.do(next)
	}
}

func inherited(fd uintptr) (*net.UnixConn, error) {
	f := os.NewFile(fd, "")
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	_ = f.Close() // conn has its own
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("descriptor %d is no socket", fd)
	}
	return u, nil
}

// child is a child's own view of itself.
type child struct {
	scan  Scanner
	files *net.UnixConn
	layer *openLayer

	mu  sync.Mutex // for enc
	enc *gob.Encoder
}

// openLayer is a layer that is being opened or is open.
type openLayer struct {
	done  chan struct{} // closed when the rest is set
	layer *claircore.Layer
	file  *os.File
	err   *Failure
	users sync.WaitGroup
}

// do starts what the parent asks for. The parent changes the layer only when
// no scan is under way.
func (c *child) do(next call) {
	if next.Scan != nil {
		l := c.layer
		l.users.Add(1)
		go func() {
			defer l.users.Done()
			c.answer(c.run(next, l))
		}()
		return
	}
	before := c.layer
	c.layer = nil
	if next.Open == nil {
		before.close()
		debug.FreeOSMemory()
		return
	}
	l := &openLayer{done: make(chan struct{})}
	c.layer = l
	go func() {
		defer close(l.done)
		before.close()
		l.open(c.files, *next.Open)
		c.answer(reply{})
	}()
}

// answer sends a reply; a parent that can't be told has gone, or ends us.
func (c *child) answer(r reply) {
	if r.Result.over() {
		r.Result, r.Failure = Result{}, &Failure{Kind: Unreadable, Text: fmt.Sprintf("it names more than %d packages", maxFound)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enc.Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (l *openLayer) close() {
	if l == nil {
		return
	}
	l.users.Wait()
	<-l.done
	if l.layer != nil {
		_ = l.layer.Close()
	}
	if l.file != nil {
		_ = l.file.Close()
	}
}

func (l *openLayer) open(files *net.UnixConn, o opening) {
	defer func() {
		if p := recover(); p != nil {
			l.err = &Failure{Kind: Panicked, Text: fmt.Sprint(p), Stack: string(debug.Stack())}
		}
	}()
	if err := mayUse(o.CPU); err != nil {
		l.err = &Failure{Kind: Passing, Text: err.Error()}
		return
	}
	var err error
	if l.file, err = receiveFile(files); err != nil {
		l.err = &Failure{Kind: Passing, Text: err.Error()}
		return
	}
	layer := new(claircore.Layer)
	desc := claircore.LayerDescription{Digest: o.Digest, MediaType: "application/vnd.oci.image.layer.v1.tar"}
	if err := layer.Init(context.Background(), &desc, l.file); err != nil {
		l.err = &Failure{Kind: Unreadable, Text: err.Error()}
		return
	}
	l.layer = layer
}

// run runs one scanner.
func (c *child) run(next call, l *openLayer) (out reply) {
	out.ID = next.ID
	defer func() {
		if p := recover(); p != nil {
			out = reply{ID: next.ID, Failure: &Failure{Kind: Panicked, Text: fmt.Sprint(p), Stack: string(debug.Stack())}}
		}
	}()
	<-l.done
	if l.err != nil {
		out.Failure = l.err
		return out
	}
	result, err := c.scan(context.Background(), *next.Scan, l.layer)
	if err != nil {
		return reply{ID: next.ID, Failure: &Failure{Kind: classify(err), Text: err.Error()}}
	}
	out.Result = result
	return out
}

// classify says whose fault an error is. What the operating system or the
// network says is theirs, but for the limits of this process.
func classify(err error) FailureKind {
	if errors.Is(err, ErrAsk) {
		return asks
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if errno == syscall.EFBIG || errno == syscall.EMFILE {
			return Unreadable
		}
		return Passing
	}
	var network net.Error
	if errors.As(err, &network) {
		return Passing
	}
	return Unreadable
}
