package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindBinariesNone(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	saved := installDirs
	t.Cleanup(func() { installDirs = saved })
	installDirs = []string{filepath.Join(t.TempDir(), "*", "bin")}
	_, err := findBinaries(t.Context(), "")
	if !errors.Is(err, ErrNoBinaries) {
		t.Fatalf("got %v", err)
	}
	for _, way := range []string{"apt-get install postgresql", "--database-url", "docker compose up"} {
		if !strings.Contains(err.Error(), way) {
			t.Errorf("the error does not name %q", way)
		}
	}
}

func TestFindBinariesNewest(t *testing.T) {
	t.Setenv("PATH", "/bin")
	root := t.TempDir()
	saved := installDirs
	t.Cleanup(func() { installDirs = saved })
	installDirs = []string{filepath.Join(root, "*", "bin")}
	for _, v := range []string{"9.6", "15", "16", "17"} {
		dir := filepath.Join(root, v, "bin")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"postgres", "initdb"} {
			if v == "17" && name == "initdb" {
				continue // clients only
			}
			script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + v + ".3 (Test 99.1)'\n"
			if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir, err := findBinaries(t.Context(), "")
	if want := filepath.Join(root, "16", "bin"); err != nil || dir != want {
		t.Errorf("found %q (%v), want %q", dir, err, want)
	}
	dir, err = findBinaries(t.Context(), "15")
	if want := filepath.Join(root, "15", "bin"); err != nil || dir != want {
		t.Errorf("for data of 15 found %q (%v), want %q", dir, err, want)
	}
	if _, err := findBinaries(t.Context(), "14"); err == nil || !strings.Contains(err.Error(), "install postgresql-14") {
		t.Errorf("for data of 14: %v", err)
	}
	t.Setenv("PATH", filepath.Join(root, "15", "bin")+":/bin")
	if dir, err := findBinaries(t.Context(), ""); err != nil || dir != filepath.Join(root, "15", "bin") {
		t.Errorf("what is on the PATH does not go first: %q (%v)", dir, err)
	}
}
