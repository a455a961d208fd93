package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// body is a response with a body.
type body[T any] struct{ Body T }

// PageParams is the query of every list.
type PageParams struct {
	Cursor string `query:"cursor" doc:"The next of the page before; empty for the first page" maxLength:"512"`
	Limit  int    `query:"limit" doc:"Items on a page" default:"50" minimum:"1" maximum:"500"`
}

func (p PageParams) page() v1.Paging {
	if p.Limit == 0 {
		p.Limit = defaultPage
	}
	return v1.Paging{Cursor: p.Cursor, Limit: min(p.Limit, maxPage)}
}

// add registers one operation under /api/v1. scopes are those it accepts.
func add[I, O any](s *server, method, path, summary string, scopes []access.Scope, status int, do func(context.Context, *I) (*O, error)) {
	huma.Register(s.api, s.operation(method, path, summary, scopes, status), func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err == nil {
			return out, nil
		}
		if _, ok := err.(huma.StatusError); ok {
			return nil, err
		}
		return nil, s.answer(err)
	})
}

func (s *server) operation(method, path, summary string, scopes []access.Scope, status int) huma.Operation {
	tag, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	op := huma.Operation{
		Method: method, Path: "/api/v1" + path, Summary: summary, Tags: []string{tag},
		OperationID:   operationID(method, path),
		DefaultStatus: status, MaxBodyBytes: maxBody, BodyReadTimeout: s.BodyTimeout,
		Metadata:   map[string]any{scopeKey: scopes},
		Extensions: map[string]any{"x-scope": scopes},
		Security:   []map[string][]string{{"token": {}}},
	}
	return op
}

// operationID is "get-images-ref" for GET /images/{ref}.
func operationID(method, path string) string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/{}.", r) })
	return strings.ToLower(method) + "-" + strings.Join(parts, "-")
}

// duration is how durations are written.
const duration = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`

// describe loosens and completes what was derived from the Go types.
func describe(doc *huma.OpenAPI) {
	all := doc.Components.Schemas.Map()
	sub := all["Subscription"]
	sub.Required = []string{"sink"} // the protocol follows from the sink's scheme
	sub.Properties["sink"].MinLength, sub.Properties["sink"].MaxLength = new(1), new(2048)
	durations := []*huma.Schema{
		all["SubscriptionConfig"].Properties["timeout"], all["Retry"].Properties["schedule"].Items,
		all["Breaker"].Properties["window"], all["Breaker"].Properties["open_for"],
		all["Breaker"].Properties["max_open_for"], all["Breaker"].Properties["disable_after"],
	}
	for _, d := range durations {
		d.Pattern, d.PatternDescription = duration, "duration like 30s or 1h30m"
		d.PrecomputeMessages()
	}
	sub.Properties["sink"].PrecomputeMessages()
	sub.PrecomputeMessages()

	types := doc.Paths["/api/v1/events"].Get.Parameters
	if i := slices.IndexFunc(types, func(p *huma.Param) bool { return p.Name == "type" }); i >= 0 {
		items := types[i].Schema.Items
		for _, t := range schemas.Types {
			items.Enum = append(items.Enum, t)
		}
		items.PrecomputeMessages()
	}

	var names []string
	for path := range doc.Paths {
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		doc.Tags = append(doc.Tags, &huma.Tag{Name: n})
	}
}

// scopes are short for the lists of scopes that operations accept.
var (
	reads     = []access.Scope{access.Read}
	publishes = []access.Scope{access.Publish}
	looks     = []access.Scope{access.Read, access.Publish}
	sees      = []access.Scope{access.Read, access.Subscriptions}
	subscribe = []access.Scope{access.Subscriptions}
	administ  = []access.Scope{access.Admin}
)

const (
	get    = http.MethodGet
	post   = http.MethodPost
	put    = http.MethodPut
	remove = http.MethodDelete
)
