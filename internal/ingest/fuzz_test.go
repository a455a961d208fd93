package ingest_test

import (
	"testing"

	"tocsin.dev/tocsin/internal/ingest"
)

// FuzzParse holds the reader of registries' push events to an answer for every body.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"events":[{"action":"push","target":{"repository":"a","tag":"1","digest":"sha256:00"},"request":{"host":"r.example"}}]}`,
		`{"type":"PUSH_ARTIFACT","event_data":{"resources":[{"resource_url":"r.example/a:1"}]}}`, `{"docker_url":"quay.io/a/b","updated_tags":["1"]}`, `{}`, `[]`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, body []byte) {
		for _, kind := range ingest.Kinds {
			_, _ = ingest.Parse(kind, "r.example", body)
		}
	})
}
