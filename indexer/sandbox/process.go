package sandbox

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one child as its parent sees it.
type process struct {
	cmd    *exec.Cmd
	dir    string // its temporary files
	calls  *net.UnixConn
	files  *net.UnixConn
	stderr *tail
	limits Limits
	done   chan struct{} // closed when it has ended and reason is set

	// Guarded by the pool's mutex.
	layer     *Layer // that it has open, if any
	alone     bool   // it runs one scan, and takes no other meanwhile
	inflight  int
	dead      bool
	counted   bool // its loss has been held against the layer
	idleSince time.Time
	unwatch   context.CancelFunc

	mu      sync.Mutex
	enc     *gob.Encoder
	lastID  uint64
	waiting map[uint64]chan reply
	opened  bool   // the layer
	killed  string // why we ended it; "" if we did not
	spared  bool   // we ended it, and no scan was at fault
	dying   bool
	ended   bool
	reason  string
}

// errGone is the error of a scan whose child ended.
type errGone struct {
	reason string
	spared bool // no scan was at fault
	opened bool // it had opened the layer
}

func (e *errGone) Error() string { return e.reason }

// program is what a child runs: this very program, even if another has taken
// its place on disk.
func program() (string, error) {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// inheritedEnv are the variables a child needs: where the network is, and whom
// to trust. It gets none that may be a secret.
var inheritedEnv = []string{
	"PATH", "HOME", "TZ", "GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOCOVERDIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// start makes a child with a directory of its own in o.Dir.
func start(o Options) (_ *process, err error) {
	path, err := program()
	if err != nil {
		return nil, fmt.Errorf("this program: %w", err)
	}
	dir, err := os.MkdirTemp(o.Dir, "child-")
	if err != nil {
		return nil, fmt.Errorf("directory of a scanning process: %w", err)
	}
	p := &process{dir: dir, stderr: &tail{}, limits: o.Limits, done: make(chan struct{}), waiting: map[uint64]chan reply{}}
	defer func() {
		if err != nil {
			p.closeConns()
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	var theirs [2]*os.File
	for i, conn := range []**net.UnixConn{&p.calls, &p.files} {
		ours, other, err := socketpair()
		if err != nil {
			return nil, err
		}
		defer other.Close()
		theirs[i] = other
		c, err := net.FileConn(ours)
		_ = ours.Close() // c has its own
		if err != nil {
			return nil, err
		}
		*conn = c.(*net.UnixConn)
	}
	p.cmd = exec.Command(path)
	p.cmd.Args = []string{"tocsin: scanning layers"}
	p.cmd.Dir, p.cmd.Stderr, p.cmd.ExtraFiles, p.cmd.SysProcAttr = dir, p.stderr, theirs[:], ownGroup()
	p.cmd.Env = []string{childEnv + "=1", "TMPDIR=" + dir}
	for _, name := range inheritedEnv {
		if v, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	p.enc = gob.NewEncoder(p.calls)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a scanning process: %w", err)
	}
	if err := p.send(hello{Setup: o.Setup, Limits: o.Limits}); err != nil {
		p.kill("its start failed: "+err.Error(), true)
	}
	return p, nil
}

// going reports whether the child has ended or is about to.
func (p *process) going() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dying || p.ended
}

func (p *process) closeConns() {
	for _, c := range []*net.UnixConn{p.calls, p.files} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// sendTimeout bounds the wait for room in the socket; calls are small and few.
const sendTimeout = 10 * time.Second

func (p *process) send(v any) error {
	if err := p.calls.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return p.enc.Encode(v)
}

// serve hands out replies until the child has ended, and cleans up after it.
func (p *process) serve(log *slog.Logger) {
	in := newReceiver(p.calls)
	for {
		r, err := in.next()
		if err != nil {
			p.kill("", true) // nothing is to be had of it any more
			break
		}
		p.mu.Lock()
		ch := p.waiting[r.ID]
		delete(p.waiting, r.ID)
		if r.ID == 0 {
			p.opened = true
		}
		p.mu.Unlock()
		if ch != nil {
			ch <- r // buffered
		}
	}
	waited := p.cmd.Wait()
	p.closeConns()
	p.mu.Lock()
	p.ended = true
	if p.reason = p.killed; p.reason == "" {
		p.reason, p.spared = p.explain(waited), false
	}
	p.mu.Unlock()
	close(p.done)
	if err := os.RemoveAll(p.dir); err != nil {
		log.Warn("temporary files of a scanning process not removed", "error", err)
	}
}

// explain says of a child that we did not end what ended it.
func (p *process) explain(err error) string {
	text := p.stderr.String()
	memory := fmt.Sprintf("it takes more than %d MiB of memory", p.limits.Memory>>20)
	for _, sign := range []struct{ text, reason string }{
		{"stack overflow", "it recurses without end"},
		{"stack exceeds", "it recurses without end"},
		{"out of memory", memory},
		{"cannot allocate memory", memory},
		{"SIGXCPU", "it takes more processor time than it may"},
		{"SIGXFSZ", fmt.Sprintf("it writes more than %d MiB to disk", p.limits.Disk>>20)},
	} {
		if strings.Contains(text, sign.text) {
			return sign.reason
		}
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return "its process was killed, as a machine without memory does"
		}
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return "its process ended: " + line
		}
	}
	return fmt.Sprintf("its process ended: %v", err)
}

// kill ends the child, at once. The first reason counts.
func (p *process) kill(reason string, spared bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return // its number may be another's
	}
	p.dying = true
	if p.killed == "" {
		p.killed, p.spared = reason, spared
	}
	_ = p.cmd.Process.Kill() // fails if it has ended by itself
}

// open hands over a layer, or takes back the one there is.
func (p *process) open(l *Layer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened = false
	if l == nil {
		return p.send(call{})
	}
	if err := sendFile(p.files, l.file); err != nil {
		return err
	}
	return p.send(call{Open: &opening{Digest: l.digest, CPU: cpuPerLayer * p.limits.timeout(l.size)}})
}

// cpuPerLayer is how many times the time of a scan all of a layer may use.
const cpuPerLayer = 30

// scan has the child run a scanner over its layer. When ctx ends, so does the
// child: the scan would not.
func (p *process) scan(ctx context.Context, r Request, timeout time.Duration) (Result, error) {
	ch := make(chan reply, 1)
	p.mu.Lock()
	p.lastID++
	id := p.lastID
	p.waiting[id] = ch
	err := p.send(call{ID: id, Scan: &r})
	p.mu.Unlock()
	if err != nil {
		p.kill("", true)
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case r := <-ch:
		return r.outcome()
	case <-p.done:
	case <-t.C:
		p.kill(fmt.Sprintf("it takes longer than %v", timeout), false)
	case <-ctx.Done():
		p.kill("another scan was given up", true)
		return Result{}, context.Cause(ctx)
	}
	<-p.done
	select {
	case r := <-ch: // it came with the end
		return r.outcome()
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return Result{}, &errGone{reason: p.reason, spared: p.spared, opened: p.opened}
}

func (r reply) outcome() (Result, error) {
	if r.Failure != nil {
		return Result{}, r.Failure
	}
	return r.Result, nil
}

// tail keeps the beginning of what a child says at its end: the rest of a
// stack trace does not matter.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxTail = 4 << 10

// Write implements [io.Writer].
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b[:min(len(b), maxTail-t.buf.Len())])
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
