package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// arrivals are the moments an event reached good sinks, in Unix nanoseconds.
type arrivals map[uuid.UUID][]int64

// sinkServer is the sinks' side: it answers 204, but for /hang and /fail, and
// keeps when which event came to a good one.
type sinkServer struct {
	mu    sync.Mutex
	got   arrivals
	count int
}

func (s *sinkServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/arrivals":
		s.mu.Lock()
		got := s.got
		s.got = arrivals{}
		s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(got)
		return
	case "/count":
		s.mu.Lock()
		n := s.count
		s.mu.Unlock()
		fmt.Fprint(w, n)
		return
	case "/hang":
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	case "/fail":
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if id, err := uuid.Parse(r.Header.Get("Webhook-Id")); err == nil {
		now := time.Now().UnixNano()
		s.mu.Lock()
		s.got[id] = append(s.got[id], now)
		s.count++
		s.mu.Unlock()
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveSinks is the sinks' process: n listeners, their URLs on standard
// output, until standard input ends.
func serveSinks(ctx context.Context, n int) error {
	s := &sinkServer{got: arrivals{}}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Printf("http://%s\n", l.Addr())
		go func() { _ = server.Serve(l) }()
	}
	fmt.Println()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}

// sinkProcess is the parent's side.
type sinkProcess struct {
	urls  []string
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startSinks(n int) (*sinkProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &sinkProcess{cmd: exec.Command(self, "-sinks", fmt.Sprint(n))}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != ""; {
		p.urls = append(p.urls, strings.TrimSpace(lines.Text()))
	}
	if len(p.urls) != n {
		p.stop()
		return nil, fmt.Errorf("%d of %d sinks started", len(p.urls), n)
	}
	return p, nil
}

func (p *sinkProcess) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

// arrivals returns what has arrived since the last call.
func (p *sinkProcess) arrivals(ctx context.Context) (a arrivals, err error) {
	return a, p.get(ctx, "/arrivals", &a)
}

// count returns how many events have arrived so far.
func (p *sinkProcess) count(ctx context.Context) (n int, err error) {
	return n, p.get(ctx, "/count", &n)
}

func (p *sinkProcess) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.urls[0]+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}
