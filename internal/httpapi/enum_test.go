package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/httpapi"
)

// freeForm are the parameters of text that is not one of a few: an id, a
// pattern, a name that somebody gave. updater is checked where nothing was found.
var freeForm = []string{"cursor", "actor", "action", "object", "subscription", "event", "subject", "image", "updater", "ref", "name", "prev", "cur", "since", "until"}

// TestParametersOfAFewValues holds every query parameter of text in the published
// description to one of two: it is free text, or a value that is none of those
// there are is refused with the one that was most likely meant.
func TestParametersOfAFewValues(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	w := httptest.NewRecorder()
	httpapi.New(httpapi.Options{}).ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	type schema struct {
		Type  any
		Enum  []string
		Items *schema
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name, In string
				Schema   schema
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for path, operations := range doc.Paths {
		for method, op := range operations {
			for _, p := range op.Parameters {
				s := p.Schema
				if s.Items != nil {
					s = *s.Items
				}
				if p.In != "query" || s.Type != "string" {
					continue
				}
				if len(s.Enum) == 0 {
					if !slices.Contains(freeForm, p.Name) {
						t.Errorf("%s %s: parameter %s takes any text: give it an enum, or list it as free text", method, path, p.Name)
					}
					continue
				}
				checked++
				right := s.Enum[len(s.Enum)-1]
				wrong := right[:len(right)-1] + "~"
				target := strings.NewReplacer("{id}", "0198d1c4-0000-7000-8000-000000000000", "{ref}", "x").Replace(path)
				r := f.do(t, "admin", strings.ToUpper(method), target+"?"+url.Values{p.Name: {wrong}}.Encode(), "", "")
				if body := string(r.body); r.status != http.StatusUnprocessableEntity || !strings.Contains(body, `did you mean \"`+right+`\"?`) ||
					!strings.Contains(body, "query."+p.Name) {
					t.Errorf("%s %s?%s=%s answers %d %s", method, path, p.Name, wrong, r.status, body)
				}
			}
		}
	}
	if checked < 6 {
		t.Errorf("%d parameters were checked", checked)
	}
}
