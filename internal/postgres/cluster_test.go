package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/filelock"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// envOwner makes this test binary run a cluster in the directory that it names.
const envOwner = "TOCSIN_POSTGRES_OWNER_DIR"

// own runs a cluster until it is killed, and prints its URL.
func own(dir string) {
	c := postgres.PrivateCluster(postgres.ClusterOptions{Dir: dir})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(context.Background()) }()
	url, err := c.URL(context.Background())
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(url)
	fmt.Println("error:", <-ended)
}

// running starts a cluster and returns it with its URL and a function that
// stops it and reports how Run ended.
func running(t *testing.T, dir string, log *slog.Logger) (c *postgres.Cluster, url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c = postgres.PrivateCluster(postgres.ClusterOptions{Dir: dir, Logger: log})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	url, err := c.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c, url, stop
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); syscall.Kill(pid, 0) == nil; {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(10 * time.Millisecond) // between two polls
	}
}

func TestClusterKeepsItsData(t *testing.T) {
	t.Parallel()
	// Below a directory that only this user may enter, as data directories of
	// root often are.
	dir := filepath.Join(postgrestest.TempDir(t), "postgres")
	_, url, stop := running(t, dir, nil)
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "",
	} {
		if got := query[string](t, url, "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	execute(t, url, `CREATE TABLE kept AS SELECT 42 AS n`)

	if _, err := pgx.Connect(t.Context(), strings.Replace(url, "@", "x@", 1)); err == nil {
		t.Error("a wrong password will do")
	}
	if _, err := filelock.Take(filepath.Join(dir, "lock")); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("the directory is not locked: %v", err)
	}
	pid := postmaster(t, dir)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)

	_, url, _ = running(t, dir, nil)
	if n := query[int](t, url, `SELECT n FROM kept`); n != 42 {
		t.Errorf("kept %d", n)
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestClusterDirectoryHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	running(t, dir, nil)
	second := postgres.PrivateCluster(postgres.ClusterOptions{Dir: dir})
	if err := second.Run(t.Context()); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("second owner: %v", err)
	}
	if _, err := second.URL(t.Context()); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("its URL: %v", err)
	}
}

// A postmaster that dies, as by the kernel's want of memory, comes back where
// it was.
func TestClusterServerDies(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	_, url, _ := running(t, dir, nil)
	execute(t, url, `CREATE TABLE kept AS SELECT 42 AS n`)
	pid := postmaster(t, dir)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			conn.Close(t.Context())
			if postmaster(t, dir) != pid {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not back in time: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // between two polls
	}
	if n := query[int](t, url, `SELECT n FROM kept`); n != 42 {
		t.Errorf("kept %d", n)
	}
}

// owner starts another process that runs a cluster in dir.
func owner(t *testing.T, dir string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envOwner+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := fmt.Fscanln(out, &url); err != nil || !strings.HasPrefix(url, "postgres://") {
		t.Fatalf("owner says %q, %v", url, err)
	}
	return cmd, url
}

func TestClusterOwnerKilled(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	cmd, url := owner(t, dir)
	execute(t, url, `CREATE TABLE kept AS SELECT 42 AS n`)
	before := postmaster(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its error is the kill
	// At once, while the old server may still be there.
	_, url, _ = running(t, dir, nil)
	if n := query[int](t, url, `SELECT n FROM kept`); n != 42 {
		t.Errorf("kept %d", n)
	}
	gone(t, before)
}

// A server that outlives its owner, as where the kernel does not tell it, is
// stopped by the next owner.
func TestClusterLeftoverServer(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	_, url, stop := running(t, dir, nil)
	execute(t, url, `CREATE TABLE kept AS SELECT 42 AS n`)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	pid := leaveRunning(t, filepath.Join(dir, "data"))
	_, url, _ = running(t, dir, nil)
	if n := query[int](t, url, `SELECT n FROM kept`); n != 42 {
		t.Errorf("kept %d", n)
	}
	gone(t, pid)
}

// leaveRunning starts a server in data that nobody owns.
func leaveRunning(t *testing.T, data string) (pid int) {
	t.Helper()
	bin, err := postgres.FindBinaries(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	port, err := postgres.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", "/proc/self/fd/3", "-p", strconv.Itoa(port), "-c", "unix_socket_directories=")
	cmd.ExtraFiles = []*os.File{dir}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if int(st.Uid) != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // it is to be stopped by somebody else
	for deadline := time.Now().Add(30 * time.Second); ; {
		b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		if err == nil && bytes.Contains(b, []byte("ready")) {
			return cmd.Process.Pid
		}
		if time.Now().After(deadline) {
			t.Fatal("the server left running is not ready")
		}
		time.Sleep(10 * time.Millisecond) // between two polls
	}
}

// The number in a stale postmaster.pid may belong to anyone by now.
func TestClusterStalePIDOfAnother(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	_, _, stop := running(t, dir, nil)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stranger.Wait() }()
	t.Cleanup(func() { _ = stranger.Process.Kill() })
	file := filepath.Join(dir, "data", "postmaster.pid")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n%s\n1\n1\n\n\n1 1\n", stranger.Process.Pid, filepath.Join(dir, "data")), 0o600); err != nil {
		t.Fatal(err)
	}
	running(t, dir, nil)
	select {
	case err := <-ended:
		t.Errorf("a stranger was ended: %v", err)
	default:
	}
}

func TestClusterHalfMade(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, url, _ := running(t, dir, nil)
	if n := query[int](t, url, `SELECT 1`); n != 1 {
		t.Errorf("got %d", n)
	}
}

func TestClusterDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := postgrestest.TempDir(t)
	c := postgres.PrivateCluster(postgres.ClusterOptions{Dir: dir, Settings: map[string]string{"shared_buffers": "no size"}})
	c.SetPatience(0)
	err := c.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("got %v", err)
	}
}

// Whoever listens on the cluster's port while it is down is not told the
// password: a server that asks for it in clear is refused.
func TestPasswordIsNotGivenAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(postgrestest.TempDir(t), "postgres")
	_, url, stop := running(t, dir, nil)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		// Its start-up message, answered by a demand for the password in clear.
		b := make([]byte, 4096)
		if _, err := c.Read(b); err != nil {
			return
		}
		if _, err := c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil {
			return
		}
		n, _ := c.Read(b) // the client hanging up is what is wanted
		heard <- b[:n]
	}()
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		conn.Close(t.Context())
		t.Error("connected to an impostor")
	}
	select {
	case b := <-heard:
		if strings.Contains(string(b), config.Password) {
			t.Error("the impostor was told the password")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody came")
	}
}
