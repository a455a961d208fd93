package updater

import (
	"encoding/json"
	"testing"
)

// TestOSVUnderAPath: a mirror below a path works, with its list of ecosystems
// beside the data or at the root.
func TestOSVUnderAPath(t *testing.T) {
	t.Parallel()
	for _, index := range []string{"/mirrors/osv/ecosystems.txt", "/ecosystems.txt"} {
		m := newMirror(t)
		m.put(index, []byte("Go\n"))
		m.put("/mirrors/osv/Go/all.zip", zipped(t, advisories(2)))
		b := newBench(t, Config{Settings: Settings{"osv": map[string]any{"url": m.URL + "/mirrors/osv"}}})
		for range 2 {
			if err := b.run("osv"); err != nil {
				t.Fatalf("with the list at %s: %v", index, err)
			}
		}
		b.want("osv/go", Unchanged, 2)
	}
}

// TestDirectories: a URL that claircore resolves others against keeps its last
// part without a slash at the end.
func TestDirectories(t *testing.T) {
	t.Parallel()
	s := Settings{
		"debian":   map[string]any{"mirror_url": "http://h/a", "json_url": "http://h/j"},
		"rhel-vex": map[string]any{"url": "http://h/vex"},
	}
	for set, want := range map[string]map[string]string{
		"debian":   {"mirror_url": "http://h/a/", "json_url": "http://h/j"},
		"rhel-vex": {"url": "http://h/vex/"},
	} {
		r, err := s.open(set)
		if err != nil {
			t.Fatal(err)
		}
		for key, url := range want {
			if got := r.text(key); got != url {
				t.Errorf("%s.%s is %s, want %s", set, key, got, url)
			}
		}
	}
	if raw, err := json.Marshal(s["rhel-vex"]); err != nil || string(raw) != `{"url":"http://h/vex"}` {
		t.Errorf("the settings themselves became %s (%v)", raw, err)
	}
}
