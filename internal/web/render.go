package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

//go:embed templates
var templates embed.FS

// A page is one parsed template with the frame around it.
type page struct{ *template.Template }

// view is what a template is given.
type view struct {
	Title   string
	Section string // of the navigation
	Owner   string // who is logged in; nobody if empty
	Name    string // of the token
	Admin   bool
	FormKey string
	Notice  string
	Version string
	Data    any
}

// parsePages parses every template: each with frame.html around it, and with the
// parts of parts.html.
func parsePages(now func() time.Time) (map[string]*page, error) {
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, err
	}
	out := map[string]*page{}
	for _, f := range files {
		name := strings.TrimSuffix(path.Base(f), ".html")
		if name == "frame" || name == "parts" {
			continue
		}
		t, err := template.New("frame.html").Funcs(functions(now)).ParseFS(templates, "templates/frame.html", "templates/parts.html", f)
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		out[name] = &page{t}
	}
	return out, nil
}

// functions are those that templates may call.
func functions(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"ago":      func(t any) string { return terminal.Ago(now(), moment(t)) },
		"stamp":    func(t any) string { return stamp(moment(t)) },
		"digest":   terminal.Digest,
		"type":     shortType,
		"seg":      url.PathEscape,
		"severity": func(s string) string { return strings.ToLower(severityName(s)) },
		"sevname":  severityName,
		"severities": func() []string {
			s := slices.Clone(schemas.SeverityNames[:])
			slices.Reverse(s)
			return s
		},
		"counts":   countsOf,
		"percent":  func(x float64) string { return fmt.Sprintf("%.0f %%", x*100) },
		"millis":   millis,
		"seconds":  func(x float64) string { return terminal.Span(time.Duration(x * float64(time.Second))) },
		"thousand": thousand,
		"noun":     func(n int, noun string) string { return terminal.Count(n, noun) },
		"join":     strings.Join,
		"pair":     func(a, b any) []any { return []any{a, b} },
	}
}

// moment takes a time or a pointer to one.
func moment(t any) *time.Time {
	switch t := t.(type) {
	case time.Time:
		return &t
	case *time.Time:
		return t
	}
	return nil
}

func stamp(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// typeNames are what event types are called on a page.
var typeNames = map[string]string{
	schemas.TypeManifestIndexed:        "Image indexed",
	schemas.TypeManifestIndexFailed:    "Image could not be indexed",
	schemas.TypeVulnerabilitiesChanged: "Vulnerabilities changed",
	schemas.TypeManifestsChanged:       "Images changed by an update",
	schemas.TypeUpdateStale:            "Feed out of date",
	schemas.TypeUpdateHeld:             "Update held back",
	schemas.TypeJobRejected:            "Message refused",
	schemas.TypePing:                   "Test event",
}

// shortType is what an event type is called: by its own words, where it has no
// name for people.
func shortType(t string) string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	t = strings.TrimSuffix(strings.TrimPrefix(t, schemas.TypePrefix), ".v1")
	t = strings.NewReplacer("_", " ", ".", " ").Replace(t)
	if t == "" {
		return ""
	}
	return strings.ToUpper(t[:1]) + t[1:]
}

func severityName(s string) string {
	return schemas.SeverityNames[schemas.SeverityRank(s)]
}

// A severityCount is how many findings are of a severity.
type severityCount struct {
	Name  string
	Count int
}

// countsOf lists a summary's severities that have findings, the worst first.
func countsOf(b any) []severityCount {
	var s schemas.BySeverity
	switch b := b.(type) {
	case schemas.BySeverity:
		s = b
	case *schemas.BySeverity:
		if b == nil {
			return nil
		}
		s = *b
	}
	all := []severityCount{{"Critical", s.Critical}, {"High", s.High}, {"Medium", s.Medium}, {"Low", s.Low}, {"Negligible", s.Negligible}, {"Unknown", s.Unknown}}
	return slices.DeleteFunc(all, func(c severityCount) bool { return c.Count == 0 })
}

// millis writes a duration in milliseconds for people.
func millis(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return terminal.Span(time.Duration(ms * float64(time.Millisecond)))
}

// thousand writes a number for people: 12,345.
func thousand(n int) string { return humanize.Comma(int64(n)) }

// show answers with a page for whoever is logged in.
func (v *visit) show(status int, name, title string, data any) {
	v.render(v.w, v.r, status, name, view{
		Title: title, Section: section(v.r.URL.Path), Owner: v.who.Owner, Name: v.who.Name, FormKey: v.formKey, Admin: v.admin(),
		Notice: notices[v.r.URL.Query().Get("notice")], Data: data,
	})
}

// section is the part of the navigation that a path belongs to.
func section(p string) string {
	s, _, _ := strings.Cut(strings.TrimPrefix(p, "/ui/"), "/")
	switch s {
	case "deliveries":
		return "subscriptions"
	case "compare":
		return "images"
	}
	return s
}

// render writes a page, or nothing of it if it fails.
func (s *site) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Version = s.Version.Version
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, v); err != nil {
		s.Log.ErrorContext(r.Context(), "page could not be made", "page", name, "error", err)
		http.Error(w, "This page could not be made; the server's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the browser may have gone
}

// fail answers an error to somebody of whom nothing is known.
func (s *site) fail(w http.ResponseWriter, r *http.Request, status int, detail string) {
	s.render(w, r, status, "problem", view{Title: http.StatusText(status), Data: &problem{Status: status, Detail: detail}})
}

// fragment makes one part of a page, as text.
func (s *site) fragment(name string, data any) (string, error) {
	var b strings.Builder
	err := s.pages["events"].ExecuteTemplate(&b, name, data)
	return b.String(), err
}
