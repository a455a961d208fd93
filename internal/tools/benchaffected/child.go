package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/postgres"
)

// result is what the measured process reports.
type result struct {
	Elapsed    time.Duration
	PeakRSS    int64 // bytes
	Statements int
	// Slowest statements, by the time spent in them.
	Slowest []statement
}

type statement struct {
	SQL   string
	Calls int
	Spent time.Duration
}

func (r *result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tocsin: %v, %d statements, peak %d MB; most time in\n", r.Elapsed.Round(time.Millisecond), r.Statements, r.PeakRSS>>20)
	for _, s := range r.Slowest {
		fmt.Fprintf(&b, "%8.2fs %5d× %s\n", s.Spent.Seconds(), s.Calls, s.SQL)
	}
	return b.String()
}

// child is the measured process: this program once more.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts it and waits until it is ready to work.
func startChild(ctx context.Context, url string, explain bool) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, "-child", "-database-url", url, fmt.Sprintf("-explain=%t", explain))}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := c.out.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("the measured process did not start: %q", line), err, c.cmd.Wait())
	}
	return c, nil
}

// measure tells it to work and returns what it reports.
func (c *child) measure() (*result, error) {
	if _, err := io.WriteString(c.in, "go\n"); err != nil {
		return nil, err
	}
	r := &result{}
	if err := json.NewDecoder(c.out).Decode(r); err != nil {
		return nil, err
	}
	return r, nil
}

// stop ends it if it has not ended.
func (c *child) stop() {
	c.in.Close()
	c.cmd.Wait()
}

// measured is the child's main: it works through the update once told to.
func measured(ctx context.Context, url string, explain bool, in io.Reader, out io.Writer) error {
	log := &statements{byText: map[string]*statement{}}
	pool, err := postgres.Open(ctx, url, func(c *pgxpool.Config) {
		c.ConnConfig.Tracer = log
		if explain {
			explainSlow(c)
		}
	})
	if err != nil {
		return err
	}
	defer pool.Close()
	e, _, err := newEngine(ctx, pool)
	if err != nil {
		return err
	}
	// A server at rest has noted what indexing notes with each inventory, which
	// are loaded here as rows.
	if err := e.ProcessUpdates(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return err
	}
	log.reset()
	start := time.Now()
	if err := e.ProcessUpdates(ctx); err != nil {
		return err
	}
	r := result{Elapsed: time.Since(start)}
	r.Statements, r.Slowest = log.report(12)
	if r.PeakRSS, err = peakRSS(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// slowSettings make the server send the plans of what takes long.
const slowSettings = `
LOAD 'auto_explain';
SET auto_explain.log_min_duration = '50ms';
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET client_min_messages = log`

// explainSlow prints the plans of slow statements to standard error. It slows
// them down.
func explainSlow(c *pgxpool.Config) {
	register := c.AfterConnect
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := register(ctx, conn); err != nil {
			return err
		}
		_, err := conn.PgConn().Exec(ctx, slowSettings).ReadAll()
		return err
	}
	c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		for line := range strings.Lines(n.Message) {
			line = strings.TrimRight(line, "\n")
			fmt.Fprintln(os.Stderr, line[:min(len(line), 200)])
		}
	}
}

// peakRSS is the most memory this process ever had resident, in bytes.
func peakRSS() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}

// statements counts what is sent to the server: every query, COPY and
// statement of a batch.
type statements struct {
	mu     sync.Mutex
	count  int
	byText map[string]*statement
}

type tracedKey struct{}

type traced struct {
	sql   string
	start time.Time
}

func (s *statements) begin(ctx context.Context, sql string) context.Context {
	return context.WithValue(ctx, tracedKey{}, traced{sql, time.Now()})
}

func (s *statements) end(ctx context.Context) {
	t, ok := ctx.Value(tracedKey{}).(traced)
	if !ok {
		return
	}
	s.note(t.sql, time.Since(t.start))
}

func (s *statements) note(sql string, spent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	text := strings.Join(strings.Fields(sql), " ")
	if s.byText[text] == nil {
		s.byText[text] = &statement{SQL: text}
	}
	s.byText[text].Calls++
	s.byText[text].Spent += spent
}

func (s *statements) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = 0
	clear(s.byText)
}

func (s *statements) report(n int) (int, []statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []statement
	for _, st := range s.byText {
		all = append(all, *st)
	}
	slices.SortFunc(all, func(a, b statement) int { return int(b.Spent - a.Spent) })
	for i := range all {
		if len(all[i].SQL) > 160 {
			all[i].SQL = all[i].SQL[:160] + "…"
		}
	}
	return s.count, all[:min(n, len(all))]
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return s.begin(ctx, d.SQL)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *statements) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	s.end(ctx)
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (s *statements) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	return s.begin(ctx, "COPY "+d.TableName.Sanitize())
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (s *statements) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	s.end(ctx)
}

// TraceBatchStart implements pgx.BatchTracer.
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return context.WithValue(ctx, tracedKey{}, traced{"batch", time.Now()})
}

// TraceBatchQuery implements pgx.BatchTracer.
func (s *statements) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	t, _ := ctx.Value(tracedKey{}).(traced)
	s.note(d.SQL, time.Since(t.start))
}

// TraceBatchEnd implements pgx.BatchTracer.
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// quiet is the log of everything that is measured.
var quiet = slog.New(slog.DiscardHandler)
