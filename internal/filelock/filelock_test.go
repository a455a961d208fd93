package filelock_test

import (
	"errors"
	"path/filepath"
	"testing"

	"tocsin.dev/tocsin/internal/filelock"
)

func TestTake(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	release, err := filelock.Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Take(path); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("second lock: %v, want ErrHeld", err)
	}
	release()
	again, err := filelock.Take(path)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again()
	if _, err := filelock.Take(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("a path that cannot be made was locked")
	}
}
