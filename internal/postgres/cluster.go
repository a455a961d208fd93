package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/filelock"
)

const (
	clusterUser     = "postgres"
	clusterDatabase = "tocsin"

	// stopTimeout is how long a fast shutdown may take, checkpoint included,
	// before it becomes an immediate one, which the next start recovers from.
	stopTimeout = time.Minute
	// startPatience is how long a server that does not start is tried again:
	// the processes of one whose postmaster was killed take a moment to notice.
	startPatience = 10 * time.Second
	pollInterval  = 25 * time.Millisecond
)

// ClusterOptions say where a private cluster lives and how it is tuned.
type ClusterOptions struct {
	// Dir holds everything of the cluster: its data directory, password, lock
	// and log. It is created if it does not exist.
	Dir string
	// Settings are server settings over the defaults, by PostgreSQL's names.
	// With fsync off, the creation of the cluster isn't synced to disk either.
	Settings map[string]string
	// Logger receives what happens to the server; its own log is a file in Dir.
	Logger *slog.Logger
}

// A Cluster is a PostgreSQL server of Tocsin's own, made from the binaries on
// this machine. It listens on a free loopback port, asks for a password that
// only this user can read, and keeps its data durable. As root it runs as an
// unprivileged user. A Cluster's methods may be called concurrently.
type Cluster struct {
	dir      string
	settings map[string]string
	log      *slog.Logger
	patience time.Duration

	ready    chan struct{} // closed when url is set
	ended    chan struct{} // closed when Run has returned
	endOnce  sync.Once
	readOnce sync.Once
	url      string
	err      error

	bin      string
	id       identity
	password string
	port     int
}

// defaultSettings suit a server that shares its machine with Tocsin.
var defaultSettings = map[string]string{
	"listen_addresses":        "127.0.0.1",
	"unix_socket_directories": "",
	"max_connections":         "200",
	"shared_buffers":          "256MB",
	"work_mem":                "32MB",
	"maintenance_work_mem":    "128MB",
	"max_wal_size":            "4GB",
	"checkpoint_timeout":      "15min",
	"wal_compression":         "on",
	"random_page_cost":        "1.1",
	"jit":                     "off",
	"log_min_messages":        "warning",
	"log_line_prefix":         "%m [%p] ",
}

// PrivateCluster returns a cluster that starts when it is run.
func PrivateCluster(o ClusterOptions) *Cluster {
	settings := maps.Clone(defaultSettings)
	maps.Copy(settings, o.Settings)
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Cluster{dir: o.Dir, settings: settings, log: log, patience: startPatience, ready: make(chan struct{}), ended: make(chan struct{})}
}

// URL waits until the server accepts connections and returns the URL of its
// database, password included. The URL stays the same until Run returns. It
// fails if ctx ends or Run returns before that.
func (c *Cluster) URL(ctx context.Context) (string, error) {
	select {
	case <-c.ready:
		return c.url, nil
	default:
	}
	select {
	case <-c.ready:
		return c.url, nil
	case <-c.ended:
		if c.err != nil {
			return "", c.err
		}
		return "", errors.New("the private PostgreSQL server was stopped before it was ready")
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the private PostgreSQL server: %w", context.Cause(ctx))
	}
}

// Run starts the server, creating its cluster the first time, and blocks until
// ctx ends; then it shuts the server down, which disconnects its clients, and
// returns nil once its processes have ended. A server left over by a Tocsin
// that was killed is shut down first. One that dies is started again on the
// same port; Run returns an error when it cannot be. A Cluster runs once.
func (c *Cluster) Run(ctx context.Context) error {
	err := c.run(ctx)
	c.endOnce.Do(func() {
		c.err = err
		close(c.ended)
	})
	return err
}

func (c *Cluster) run(ctx context.Context) error {
	var err error
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	if c.bin, err = c.binaries(ctx); err != nil {
		return err
	}
	if c.id, err = serverIdentity(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	unlock, err := filelock.Take(filepath.Join(c.dir, "lock"))
	if err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer unlock()
	if err := c.create(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := c.serve(ctx); err != nil {
			return err
		}
	}
	return nil
}

// binaries finds the server that fits the cluster, or the newest if there is no
// cluster yet.
func (c *Cluster) binaries(ctx context.Context) (string, error) {
	b, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return findBinaries(ctx, "")
	}
	if err != nil {
		return "", fmt.Errorf("private PostgreSQL: %w", err)
	}
	return findBinaries(ctx, strings.TrimSpace(string(b)))
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// serve runs the server once. It returns nil if it was stopped or had been
// ready before it died.
func (c *Cluster) serve(ctx context.Context) error {
	if err := c.stopLeftover(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(c.patience)
	for {
		p, err := c.start()
		if err != nil {
			return err
		}
		err = c.waitReady(ctx, p)
		if err == nil {
			c.readOnce.Do(func() {
				c.url = c.connURL(clusterDatabase)
				close(c.ready)
			})
			c.log.InfoContext(ctx, "private PostgreSQL server is ready", "dir", c.dir, "port", c.port)
			select {
			case <-ctx.Done():
			case <-p.exited:
				c.log.WarnContext(ctx, "private PostgreSQL server died; starting it again", "error", p.err)
				return nil
			}
		}
		if ctx.Err() != nil {
			return c.stop(p)
		}
		// A port taken since it was chosen, or processes of a killed
		// postmaster that have not ended yet: both pass.
		if time.Now().After(deadline) {
			return errors.Join(err, c.stop(p))
		}
		if err := c.stop(p); err != nil {
			return err
		}
		select {
		case <-c.ready: // the URL is known to clients: keep the port
		default:
			c.port = 0
		}
		select {
		case <-time.After(10 * pollInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// A process is the running postmaster.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	err    error         // set before exited is closed
}

func (c *Cluster) start() (*process, error) {
	if c.port == 0 {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("private PostgreSQL: choose a port: %w", err)
		}
		c.port = port
	}
	log, err := openLog(c.logPath())
	if err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer log.Close()
	dir, err := os.Open(c.data())
	if err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer dir.Close()
	args := []string{"-p", strconv.Itoa(c.port)}
	for _, k := range slices.Sorted(maps.Keys(c.settings)) {
		args = append(args, "-c", k+"="+c.settings[k])
	}
	cmd := c.id.command(filepath.Join(c.bin, "postgres"), dir, nil, args...)
	cmd.Stdout, cmd.Stderr = log, log

	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel tells the server of its parent's end when the thread that
		// started it ends, so that thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("private PostgreSQL: start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// waitReady waits until the server answers, however long its recovery takes,
// and makes sure that the database is there.
func (c *Cluster) waitReady(ctx context.Context, p *process) error {
	for {
		err := c.ensureDatabase(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.exited:
			return fmt.Errorf("private PostgreSQL did not start: %w; the end of %s:\n%s", p.err, c.logPath(), logTail(c.logPath()))
		case <-time.After(pollInterval):
		}
	}
}

const (
	databaseExistsSQL = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = @name)`
	createDatabaseSQL = `CREATE DATABASE ` + clusterDatabase
)

func (c *Cluster) ensureDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.connURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var ok bool
	if err := conn.QueryRow(ctx, databaseExistsSQL, pgx.NamedArgs{"name": clusterDatabase}).Scan(&ok); err != nil || ok {
		return err
	}
	_, err = conn.Exec(ctx, createDatabaseSQL)
	return err
}

// stop asks the server for a fast shutdown and waits until it has ended.
func (c *Cluster) stop(p *process) error {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		// An error means that it has ended already.
		_ = p.cmd.Process.Signal(sig)
		select {
		case <-p.exited:
			return nil
		case <-time.After(stopTimeout):
			c.log.Warn("private PostgreSQL server does not stop", "signal", sig.String(), "waited", stopTimeout)
		}
	}
	return fmt.Errorf("private PostgreSQL: process %d does not end", p.cmd.Process.Pid)
}

func (c *Cluster) connURL(database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(clusterUser, c.password),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:   "/" + database,
		// Whoever takes the port while the server is down must not be told the
		// password: only the exchange that does not show it will do.
		RawQuery: "sslmode=disable&require_auth=scram-sha-256",
	}
	return u.String()
}

// freePort returns a loopback port that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
