package clair

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// Media types of an OpenAPI description.
const (
	typeOpenAPIJSON = "application/vnd.oai.openapi+json"
	typeOpenAPIYAML = "application/vnd.oai.openapi"
)

// operation is one line of the description.
type operation struct {
	method, path, summary string
	query                 []string
	in, out               any
	status                string
	media                 string
}

var operations = []operation{
	{"post", "/indexer/api/v1/index_report", "Index a manifest", nil, manifest{}, indexReport{}, "201", typeJSON},
	{"delete", "/indexer/api/v1/index_report", "Delete several index reports", nil, []string{}, []string{}, "200", typeJSON},
	{"get", "/indexer/api/v1/index_report/{digest}", "The index report of a manifest", nil, nil, indexReport{}, "200", typeIndexReport},
	{"delete", "/indexer/api/v1/index_report/{digest}", "Delete an index report", nil, nil, nil, "204", ""},
	{"get", "/indexer/api/v1/index_state", "The state of the indexer", nil, nil, indexState{}, "200", typeIndexState},
	{"post", "/indexer/api/v1/internal/affected_manifest/", "Manifests that vulnerabilities affect", nil, vulnerabilityBatch{}, affectedManifests{}, "200", typeAffected},
	{"get", "/matcher/api/v1/vulnerability_report/{digest}", "The vulnerability report of a manifest", nil, nil, vulnerabilityReport{}, "200", typeIndexReport},
	{"get", "/matcher/api/v1/internal/update_operation", "Update operations by updater", []string{"kind", "latest"}, nil, map[string][]updateOperation{}, "200", typeJSON},
	{"delete", "/matcher/api/v1/internal/update_operation/{ref}", "Delete an update operation", nil, nil, nil, "200", ""},
	{"get", "/matcher/api/v1/internal/update_diff", "The difference of two update operations", []string{"cur", "prev"}, nil, updateDiff{}, "200", typeJSON},
	{"get", "/notifier/api/v1/notification/{id}", "A page of a notification", []string{"page_size", "next"}, nil, notificationPage{}, "200", typeNotification},
	{"delete", "/notifier/api/v1/notification/{id}", "Say that a notification has been read", nil, nil, nil, "200", ""},
}

var openAPIDocument = sync.OnceValue(func() []byte {
	schemas := map[string]any{}
	paths := map[string]map[string]any{}
	failure := map[string]any{
		"description": "What went wrong",
		"content":     map[string]any{typeJSON: map[string]any{"schema": schemaOf(reflect.TypeFor[apiError](), schemas)}},
	}
	for _, o := range operations {
		answer := map[string]any{"description": o.summary}
		if o.out != nil {
			answer["content"] = map[string]any{o.media: map[string]any{"schema": schemaOf(reflect.TypeOf(o.out), schemas)}}
		}
		op := map[string]any{"summary": o.summary, "responses": map[string]any{o.status: answer, "default": failure}}
		var params []any
		for seg := range strings.SplitSeq(o.path, "/") {
			if name, ok := strings.CutPrefix(seg, "{"); ok {
				params = append(params, map[string]any{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
			}
		}
		for _, q := range o.query {
			params = append(params, map[string]any{"name": q, "in": "query", "schema": map[string]any{"type": "string"}})
		}
		if params != nil {
			op["parameters"] = params
		}
		if o.in != nil {
			op["requestBody"] = map[string]any{"required": true, "content": map[string]any{typeJSON: map[string]any{"schema": schemaOf(reflect.TypeOf(o.in), schemas)}}}
		}
		if paths[o.path] == nil {
			paths[o.path] = map[string]any{}
		}
		paths[o.path][o.method] = op
	}
	b, err := json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Clair v4 API, as Tocsin answers it", "version": "1.1",
			"description": "The API that Quay and clairctl use. Tocsin's own is described at /openapi.json.",
		},
		"paths": paths,
		"components": map[string]any{
			"schemas":         schemas,
			"securitySchemes": map[string]any{"psk": map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
		},
		"security": []any{map[string]any{"psk": []any{}}},
	}, "", "  ")
	if err != nil {
		panic(err) // plain maps and strings: cannot happen
	}
	return b
})

// schemaOf describes a wire type; structs go into components.
func schemaOf(t reflect.Type, components map[string]any) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[uuid.UUID]():
		return map[string]any{"type": "string", "format": "uuid"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), components)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), components)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), components)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Struct:
	default:
		return map[string]any{"type": "string"}
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	if _, ok := components[t.Name()]; ok {
		return ref
	}
	properties := map[string]any{}
	var required []string
	components[t.Name()] = nil // recursion ends here
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		properties[name] = schemaOf(f.Type, components)
		if options == "" {
			required = append(required, name)
		}
	}
	components[t.Name()] = map[string]any{
		"type": "object", "properties": properties, "required": required, "additionalProperties": false,
	}
	return ref
}

func (s *server) openAPI(w http.ResponseWriter, r *http.Request) {
	contentType, ok := negotiate(w, r, typeJSON, typeOpenAPIJSON, typeOpenAPIYAML, "application/yaml")
	if !ok {
		return
	}
	doc := openAPIDocument()
	if contentType != typeJSON && contentType != typeOpenAPIJSON {
		var err error
		if doc, err = yaml.JSONToYAML(doc); err != nil {
			s.broke(w, r, err)
			return
		}
	}
	sum := sha256.Sum256(doc)
	etag := quote(hex.EncodeToString(sum[:8]))
	w.Header().Set("Etag", etag)
	if unmodified(r, etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Write(doc) // the client may have gone; there is nobody to tell
}
