// Package filelock keeps two processes from using one directory at once.
//
// A lock is advisory, belongs to this process, and ends with it at the latest,
// however it ends. It is only as good as the file system's flock: on network
// file systems without one, it does not protect.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrHeld is returned when another process holds the lock.
var ErrHeld = errors.New("another Tocsin uses this directory (stop it, or choose another data directory)")

// Take locks path, which is created if it does not exist and stays when the
// lock has ended. It doesn't wait.
func Take(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", filepath.Dir(path), ErrHeld)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}
