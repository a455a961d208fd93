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
	_, err := findBinaries()
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
	t.Setenv("PATH", t.TempDir())
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
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir, err := findBinaries()
	if want := filepath.Join(root, "16", "bin"); err != nil || dir != want {
		t.Errorf("found %q (%v), want %q", dir, err, want)
	}
}
