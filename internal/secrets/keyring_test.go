package secrets

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func ring(t *testing.T, fills ...byte) *Keyring {
	t.Helper()
	var keys [][]byte
	for _, f := range fills {
		keys = append(keys, bytes.Repeat([]byte{f}, KeySize))
	}
	k, err := New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	old, both, fresh := ring(t, 1), ring(t, 2, 1), ring(t, 2)
	s := old.Seal([]byte("hunter2"), "row 1")
	if bytes.Contains(s.Box, []byte("hunter2")) {
		t.Error("the box shows the secret")
	}
	for name, k := range map[string]*Keyring{"the same": old, "one that has it second": both} {
		if got, err := k.Open(s, "row 1"); err != nil || string(got) != "hunter2" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if s.KeyID != old.Primary() || s.KeyID == both.Primary() {
		t.Errorf("sealed with key %s, not with the first one", s.KeyID)
	}
	if _, err := fresh.Open(s, "row 1"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := old.Open(s, "row 2"); !errors.Is(err, ErrTampered) {
		t.Errorf("another row: %v", err)
	}
	for i := range s.Box {
		cut := Sealed{KeyID: s.KeyID, Box: bytes.Clone(s.Box)}
		cut.Box[i] ^= 1
		if _, err := old.Open(cut, "row 1"); !errors.Is(err, ErrTampered) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		cut.Box = cut.Box[:i]
		if _, err := old.Open(cut, "row 1"); !errors.Is(err, ErrTampered) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	if bytes.Equal(s.Box, old.Seal([]byte("hunter2"), "row 1").Box) {
		t.Error("sealed twice alike")
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	k := ring(t, 0x41)
	key := strings.Repeat("A", KeySize)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), k.LogValue().String()} {
		if strings.Contains(text, key) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(key))) {
			t.Errorf("shows the key: %s", text)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "  \n", "!!!!", "c2hvcnQ=", base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestFileIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			k, err := File(path, func() error { return nil })
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = k.Primary()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("several keys: %v", ids)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	_ = os.WriteFile(path, []byte("nonsense"), 0o600)
	if _, err := File(path, func() error { return nil }); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken file: %v", err)
	}
}

func TestFileIsNotMadeAgainstTheCallersWord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	no := errors.New("another key is in use")
	if _, err := File(path, func() error { return no }); !errors.Is(err, no) {
		t.Errorf("%v, want the caller's reason", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	if _, err := File(path, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := File(path, func() error { return no }); err != nil {
		t.Errorf("a file that is there: %v", err)
	}
}
