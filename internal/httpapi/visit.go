package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/text"
)

// Audit is the audit log: package internal/access.
type Audit interface {
	Begin(ctx context.Context, e access.Entry) (uuid.UUID, error)
	Conclude(ctx context.Context, id uuid.UUID, e access.Entry) error
	Forget(ctx context.Context, id uuid.UUID) error
	List(ctx context.Context, q access.AuditQuery) ([]access.Entry, string, error)
}

// concludeTimeout bounds writing down what became of a request, whose client may
// have gone.
const concludeTimeout = 5 * time.Second

// visit is one request on its way, as far as the audit log is concerned. What
// changes something is written down before it is let in, and its outcome after.
// It is for the request's goroutine.
type visit struct {
	s         *server
	request   string
	remote    string // the client's address
	id        uuid.UUID
	entry     access.Entry
	begun     bool
	unchanged bool
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// Client is the host that a request to the handler of New comes from: the peer,
// or whom a trusted proxy names.
func Client(r *http.Request) string { return remoteHost(r) }

// letIn says who makes the request, before it is served. It reports whether the
// request may go on: not if it changes something that could not be written down.
func (v *visit) letIn(r *http.Request, p access.Principal) bool {
	action := actionOf(r)
	if v == nil || v.s.Services.Audit == nil || action == "" {
		return true
	}
	v.entry = access.Entry{
		Actor: p.Name, Owner: p.Owner, Action: action, Object: text.Redact(text.Clean(objectOf(r))),
		Remote: remoteHost(r), Request: v.request,
	}
	if id, err := uuid.Parse(p.Token); err == nil {
		v.entry.Token = &id
	}
	id, err := v.s.Services.Audit.Begin(r.Context(), v.entry)
	if err != nil {
		v.s.Log.ErrorContext(r.Context(), "a change could not be written into the audit log and is refused", "error", err)
		return false
	}
	v.id, v.begun = id, true
	return true
}

// inParts are actions that may be refused when a part of them is done: an archive
// that ends badly, an image one platform of which can't be taken, a client that did
// not wait for an index.
var inParts = []string{"updaters.import", "images.create", "manifests.create", "clair.index_report.create"}

// conclude writes down what became of the request. One that was refused changed
// nothing, and leaves no entry, but for those that are done in parts.
func (v *visit) conclude(ctx context.Context, status int) {
	if !v.begun {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), concludeTimeout)
	defer cancel()
	var err error
	refused := status >= 400 && status < 500 && !slices.Contains(inParts, v.entry.Action)
	if v.unchanged || refused {
		err = v.s.Services.Audit.Forget(ctx, v.id)
	} else {
		v.entry.Status = &status
		err = v.s.Services.Audit.Conclude(ctx, v.id, v.entry)
	}
	if err != nil {
		v.s.Log.ErrorContext(ctx, "the outcome of a change could not be written into the audit log", "entry", v.id, "error", err)
	}
}

// note adds to the request's entry in the audit log what it was about: object, if
// not empty, and details, whose texts are redacted.
func note(ctx context.Context, object string, detail map[string]any) {
	v := visitOf(ctx)
	if v == nil {
		return
	}
	if object != "" {
		v.entry.Object = text.Redact(text.Clean(object))
	}
	for k, d := range detail {
		switch d := d.(type) {
		case string:
			if d == "" {
				delete(detail, k)
			} else {
				detail[k] = text.Clip(text.Redact(text.Clean(d)), 500)
			}
		case []string:
			out := make([]string, 0, min(len(d), 20))
			for _, s := range d[:min(len(d), 20)] {
				out = append(out, text.Clip(text.Redact(text.Clean(s)), 500))
			}
			detail[k] = out
		}
	}
	if len(detail) > 0 {
		v.entry.Detail = detail
	}
}

// unchanged says that the request changed nothing after all.
func unchanged(ctx context.Context) {
	if v := visitOf(ctx); v != nil {
		v.unchanged = true
	}
}

// questions are paths that are asked by POST and change nothing.
var questions = []string{"/api/v1/subscriptions/dry-run", "/indexer/api/v1/internal/affected_manifest/"}

// actionOf names what a request would do: "subscriptions.pause", "tokens.create";
// "" for one that changes nothing.
func actionOf(r *http.Request) string {
	verb := map[string]string{http.MethodPost: "create", http.MethodPut: "replace", http.MethodDelete: "delete"}[r.Method]
	if verb == "" {
		return ""
	}
	for _, q := range questions {
		if r.URL.Path == q {
			return ""
		}
	}
	prefix, parts := "", strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3:
		prefix, parts = "clair.", parts[3:]
		if parts[0] == "internal" {
			parts = parts[1:]
		}
	}
	if len(parts) == 0 {
		return ""
	}
	// /subscriptions/{id}/pause, /deliveries/replay, /updaters/import
	if last := parts[len(parts)-1]; len(parts) == 3 || len(parts) == 2 && r.Method == http.MethodPost {
		verb = last
	}
	return text.Clip(text.Clean(prefix+parts[0]+"."+verb), 100)
}

// objectOf is the thing that a request's path names.
func objectOf(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i, p := range parts {
		if i >= 3 && (i == 3 && len(parts) > 4 || r.Method != http.MethodPost || parts[0] != "api") {
			if name, err := url.PathUnescape(p); err == nil && name != "index_report" && name != "internal" {
				return name
			}
		}
	}
	return ""
}

func (s *server) registerAudit() {
	type listIn struct {
		PageParams
		Actor  string    `query:"actor" doc:"Only what this token did, by name or id; tocsin for what the server does by itself" maxLength:"200"`
		Action string    `query:"action" doc:"Only this action, or this kind: subscriptions.pause, tokens" maxLength:"100"`
		Object string    `query:"object" doc:"Only what was done to things with this in their name or id" maxLength:"1000"`
		Since  time.Time `query:"since" doc:"Not before this time"`
		Until  time.Time `query:"until" doc:"Before this time"`
	}
	add(s, get, "/audit", "Who did what, newest first", administ, 0, func(ctx context.Context, in *listIn) (*body[v1.Page[v1.AuditEntry]], error) {
		if s.Services.Audit == nil {
			return nil, absent("the audit log")
		}
		p := in.page()
		list, next, err := s.Services.Audit.List(ctx, access.AuditQuery{
			Actor: in.Actor, Action: in.Action, Object: in.Object, Since: in.Since, Until: in.Until, Cursor: p.Cursor, Limit: p.Limit,
		})
		out := v1.Page[v1.AuditEntry]{Items: make([]v1.AuditEntry, len(list)), Next: next}
		for i, e := range list {
			out.Items[i] = v1.AuditEntry{
				ID: e.ID.String(), At: e.At, Actor: e.Actor, Owner: e.Owner, Action: e.Action, Object: e.Object, Detail: e.Detail,
				Remote: e.Remote, Request: e.Request, Status: e.Status,
			}
			if e.Token != nil {
				out.Items[i].Token = e.Token.String()
			}
		}
		return &body[v1.Page[v1.AuditEntry]]{out}, err
	})
}
