package indexer

import (
	"testing"

	"tocsin.dev/tocsin/internal/bus"
)

// FuzzMessage holds the intake to an answer for every message.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"image":"registry.example/app:1","platforms":["linux/arm64"]}`, `{"hash":"sha256:00","layers":[{"hash":"x","uri":"https://a/b","headers":{"A":["b"]}}]}`,
		`{"specversion":"1.0","id":"1","source":"urn:x","type":"x","data":{"image":"a"}}`, `{"manifest":{"manifest":{}}}`, `null`, `[]`,
	} {
		f.Add([]byte(seed), "", "")
	}
	f.Add([]byte(`{"image":"a"}`), "application/json", "1.0")
	f.Fuzz(func(t *testing.T, data []byte, contentType, version string) {
		m := bus.Message{Data: data}
		if contentType != "" {
			m.Header = map[string][]string{"content-type": {contentType}, "ce-specversion": {version}, "ce-id": {"1"}, "ce-source": {"urn:x"}, "ce-type": {"x"}}
		}
		if r, err := parseMessage(m); err == nil && r.Image == "" && r.Manifest == nil {
			t.Errorf("%q is taken and asks for nothing", data)
		}
	})
}
