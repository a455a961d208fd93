package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestCheckWriteNoticesReadOnly(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), postgrestest.New(t)
	if err := postgres.CheckWrite(ctx, pool); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, fmt.Sprintf(`ALTER DATABASE %q SET default_transaction_read_only = on`, pool.Config().ConnConfig.Database)); err != nil {
		t.Fatal(err)
	}
	pool.Reset()
	if err := pool.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	err := postgres.CheckWrite(ctx, pool)
	if err == nil || !strings.Contains(err.Error(), "takes no writes") || !strings.Contains(err.Error(), "default_transaction_read_only") {
		t.Fatalf("of a database that takes no writes: %v", err)
	}
}

func TestCheckWriteLeavesLittle(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), postgrestest.New(t)
	size := func() (n int64) {
		if err := pool.QueryRow(ctx, `SELECT pg_relation_size('tocsin.write_probe')`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	last, grown, emptied := size(), 0, 0
	for range 300 {
		if err := postgres.CheckWrite(ctx, pool); err != nil {
			t.Fatal(err)
		}
		now := size()
		switch {
		case now > last:
			grown++
		case now == 0:
			emptied++
		default:
			t.Fatalf("a probe wrote without new room: the table has %d bytes before and %d after", last, now)
		}
		last = now
		if now > 1<<20 {
			t.Fatalf("the table of probes has %d bytes", now)
		}
	}
	if emptied < 2 {
		t.Fatalf("the table was emptied %d times in 300 probes", emptied)
	}

	// A reader's lock, such as pg_dump's, neither blocks a probe nor fails it.
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, `LOCK TABLE tocsin.write_probe IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	for range 150 {
		if err := postgres.CheckWrite(ctx, pool); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckWriteNoticesAFullDisk puts the table of probes on a disk of 256 KiB.
func TestCheckWriteNoticesAFullDisk(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), postgrestest.New(t)
	dir := smallDisk(t, pool)
	space := "full_" + strconv.Itoa(os.Getpid())
	for _, sql := range []string{
		fmt.Sprintf(`CREATE TABLESPACE %s LOCATION '%s'`, space, dir),
		`ALTER TABLE tocsin.write_probe SET TABLESPACE ` + space,
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, sql := range []string{`DROP TABLE tocsin.write_probe`, `DROP TABLESPACE ` + space} {
			if _, err := pool.Exec(context.WithoutCancel(ctx), sql); err != nil {
				t.Error(err)
			}
		}
	})
	if err := postgres.CheckWrite(ctx, pool); err != nil {
		t.Fatalf("with room: %v", err)
	}
	for range 64 {
		if err := postgres.CheckWrite(ctx, pool); err != nil {
			if !strings.Contains(err.Error(), "No space left") || !strings.Contains(err.Error(), "make room") {
				t.Fatalf("of a full disk: %v", err)
			}
			return
		}
	}
	t.Fatal("64 probes found room on a disk of 256 KiB")
}

// smallDisk mounts a file system of 256 KiB that belongs to the user of the
// database server, or skips the test where that can't be.
func smallDisk(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var status string
	if err := pool.QueryRow(t.Context(), `SELECT pg_read_file('/proc/self/status', 0, 4096)`).Scan(&status); err != nil {
		t.Skipf("who the database server is can't be seen: %v", err)
	}
	owner := -1
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Uid:" {
			owner, _ = strconv.Atoi(f[1])
		}
	}
	parent, err := os.MkdirTemp("", "tocsin-small-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(parent, "disk")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount).CombinedOutput(); err != nil {
		t.Skipf("a small disk can't be mounted here: %s", strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	if err := os.Chown(mount, owner, -1); err != nil {
		t.Fatal(err)
	}
	return mount
}
