package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// create makes the cluster unless it is there. It is made under another name
// first, so that one cut short is not taken for whole.
func (c *Cluster) create(ctx context.Context) error {
	passwordPath := filepath.Join(c.dir, "password")
	ok, err := exists(c.data())
	if err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	if ok {
		b, err := os.ReadFile(passwordPath)
		if err != nil {
			return fmt.Errorf("private PostgreSQL: its password is gone: %w", err)
		}
		c.password = string(bytes.TrimSpace(b))
		return nil
	}

	c.log.InfoContext(ctx, "creating a private PostgreSQL cluster", "dir", c.dir, "binaries", c.bin)
	c.password = rand.Text()
	if err := writeDurably(passwordPath, c.password+"\n"); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	fresh := c.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	if err := c.initdb(ctx, fresh); err != nil {
		return err
	}
	// Durably, or a power cut would have the next start begin anew.
	if err := errors.Join(os.Rename(fresh, c.data()), syncDir(c.dir)); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	return nil
}

func writeDurably(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (c *Cluster) initdb(ctx context.Context, path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	if err := c.id.own(path); err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer dir.Close()
	pw, err := c.passwordFile()
	if err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer pw.Close()
	defer os.Remove(pw.Name())

	args := []string{"-U", clusterUser, "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", "--pwfile=" + descriptorPath(4)}
	if c.settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := c.id.command(filepath.Join(c.bin, "initdb"), dir, []*os.File{pw}, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("private PostgreSQL: initdb: %w\n%s", err, out)
	}
	return ctx.Err()
}

// passwordFile returns a file with the password that the server's user may read.
func (c *Cluster) passwordFile() (*os.File, error) {
	f, err := os.CreateTemp(c.dir, "initdb-")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(c.password + "\n")
	if err := errors.Join(err, c.id.own(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// stopLeftover ends the server of an earlier Tocsin that was killed, so that
// the new one is our child and has the present settings.
func (c *Cluster) stopLeftover(ctx context.Context) error {
	pidFile := filepath.Join(c.data(), "postmaster.pid")
	pid := readPID(pidFile)
	if pid == 0 {
		return nil
	}
	if !servesDirectory(pid, c.data()) {
		// The number belongs to another process now, which PostgreSQL might
		// take for a running server. A directory is ours alone while locked.
		if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("private PostgreSQL: %w", err)
		}
		return nil
	}
	c.log.WarnContext(ctx, "stopping the private PostgreSQL server of an earlier run", "pid", pid)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		// An error means that it has just ended.
		_ = syscall.Kill(pid, sig)
		for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); {
			if !servesDirectory(pid, c.data()) {
				return nil
			}
			select {
			case <-time.After(pollInterval):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("private PostgreSQL: process %d of an earlier run does not stop", pid)
}

// readPID returns the process number in a postmaster.pid, 0 if there is none.
func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil || pid < 2 {
		return 0
	}
	return pid
}

// maxLogSize is where the server's log starts over at the next start.
const maxLogSize = 16 << 20

func (c *Cluster) logPath() string { return filepath.Join(c.dir, "postgres.log") }

// openLog opens the server's log for appending; one that has grown too large
// is kept once under another name.
func openLog(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > maxLogSize {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// logTail returns the last lines of the server's log.
func logTail(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return b[max(0, len(b)-2000):]
}
