package postgrestest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/filelock"
	"tocsin.dev/tocsin/internal/postgres"
)

const (
	dirPrefix = "tocsin-postgrestest-"
	// memoryDir is a file system in memory on Linux, used with this much room.
	memoryDir  = "/dev/shm"
	memoryRoom = 4 << 30
	// A directory without a server is left alone while it is younger.
	staleAfter = time.Minute
)

// unsafeSettings trade what a test doesn't need, its data after a power cut, for speed.
var unsafeSettings = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "off",
	"full_page_writes":   "off",
	"autovacuum":         "off",
	"max_connections":    "400",
	"shared_buffers":     "128MB",
	"max_wal_size":       "256MB",
}

// Serve starts a server for tests in a temporary directory and returns its URL.
// The caller stops it, which removes the directory.
func Serve() (url string, stop func() error, err error) {
	parent := tempRoot()
	removeStale(parent)
	dir, err := os.MkdirTemp(parent, dirPrefix)
	if err != nil {
		return "", nil, err
	}
	cluster := postgres.PrivateCluster(postgres.ClusterOptions{
		Dir: dir, Settings: unsafeSettings, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- cluster.Run(ctx) }()
	stop = func() error {
		cancel()
		if err := <-ended; err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	url, err = cluster.URL(ctx)
	if err != nil {
		// The server's log is in the directory, which is kept for that.
		cancel()
		<-ended
		return "", nil, err
	}
	return url, stop, nil
}

// tempRoot is where temporary directories of servers are made: in memory, if
// there is room.
func tempRoot() string {
	if room(memoryDir) >= memoryRoom {
		return memoryDir
	}
	return os.TempDir()
}

// TempDir is like t.TempDir, but in memory where there is room: for servers
// that sync to disk, which would wait for each other.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(tempRoot(), dirPrefix)
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("postgrestest: %v", err)
		}
	})
	return dir
}

// removeStale removes what killed test processes left in parent, as far as it
// can: it is only a courtesy.
func removeStale(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		lock := filepath.Join(dir, "lock")
		fi, err := os.Stat(lock)
		if err != nil || time.Since(fi.ModTime()) < staleAfter {
			continue
		}
		release, err := filelock.Take(lock)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		release()
	}
}
