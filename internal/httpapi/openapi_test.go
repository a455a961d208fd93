package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"os"
	"testing"

	"tocsin.dev/tocsin/internal/httpapi"
)

var update = flag.Bool("update", false, "write schemas/openapi.json anew")

// TestOpenAPIDocument holds the published description to what the server
// answers.
func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	const path = "../../schemas/openapi.json"
	w := httptest.NewRecorder()
	httpapi.New(httpapi.Options{}).ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	var got bytes.Buffer
	if err := json.Indent(&got, w.Body.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want), bytes.TrimSpace(got.Bytes())) {
		t.Errorf("schemas/openapi.json is not what the server answers: run `make docs`")
	}
}
