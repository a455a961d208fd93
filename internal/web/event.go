package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// An event is what a page shows of a CloudEvent. Only the fields of the
// attributes that it has are set.
type event struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Subject  string          `json:"subject"`
	Time     time.Time       `json:"time"`
	Severity string          `json:"severity"`
	Image    string          `json:"image"`
	Updater  string          `json:"updater"`
	Added    int             `json:"added"`
	Removed  int             `json:"removed"`
	Revised  int             `json:"revised"`
	KEV      bool            `json:"kev"`
	Fixable  bool            `json:"fixable"`
	Coverage string          `json:"coverage"`
	Data     json.RawMessage `json:"data"`
}

// Changed reports whether it is about what is known against an image.
func (e event) Changed() bool { return e.Type == schemas.TypeVulnerabilitiesChanged }

// About names what the event is about, for a line.
func (e event) About() string {
	switch {
	case e.Image != "":
		return e.Image
	case strings.HasPrefix(e.Subject, "sha256:"):
		return e.Subject
	}
	var d struct {
		Name, Subscription, Set, Updater, Kind string
		Update                                 struct{ Updater string }
	}
	_ = json.Unmarshal(e.Data, &d) // a line without a name will do
	for _, s := range []string{d.Name, d.Updater, d.Update.Updater, d.Set, d.Subscription, d.Kind, e.Subject} {
		if s != "" {
			return s
		}
	}
	return ""
}

// Says is what happened, in a few words, where the type alone does not say it.
func (e event) Says() string {
	var d struct {
		Reason          string
		Packages        int
		Vulnerabilities schemas.BySeverity
		Manifests       int `json:"manifests_affected"`
		Added           json.RawMessage
		Removed         json.RawMessage
		Revised         json.RawMessage
		Rows, Before    int
		Message         string
	}
	_ = json.Unmarshal(e.Data, &d) // a line that says less will do
	switch e.Type {
	case schemas.TypeManifestIndexed:
		return thousand(d.Packages) + " packages"
	case schemas.TypeUpdateCompleted:
		return "+" + string(d.Added) + " −" + string(d.Removed) + " ~" + string(d.Revised) + " advisories, " + thousand(d.Manifests) + " images touched"
	case schemas.TypeUpdateHeld:
		return thousand(d.Rows) + " rows where there were " + thousand(d.Before)
	case schemas.TypePing:
		return d.Message
	}
	first, _, _ := strings.Cut(d.Reason, "\n")
	return first
}

// eventFilter is what a list of events can be narrowed by.
type eventFilter struct {
	Type, Image, Updater, Severity, Cursor string
}

func (f eventFilter) query(limit string) url.Values {
	q := url.Values{"limit": {limit}}
	for k, v := range map[string]string{"type": f.Type, "image": pattern(f.Image), "updater": f.Updater, "severity": f.Severity, "cursor": f.Cursor} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return q
}

// pattern makes what somebody types a shell pattern that finds it anywhere.
func pattern(s string) string {
	if s == "" || strings.ContainsAny(s, "*?[") {
		return s
	}
	return "*" + s + "*"
}

type eventsPage struct {
	Filter eventFilter
	Types  []string
	Events []event
	Next   string // address of the page that follows
	Live   bool   // it is the newest page, without any filter
}

func (v *visit) events() error {
	q := v.r.URL.Query()
	f := eventFilter{Type: q.Get("type"), Image: strings.TrimSpace(q.Get("image")), Updater: strings.TrimSpace(q.Get("updater")), Severity: q.Get("severity"), Cursor: q.Get("cursor")}
	var list v1.Page[event]
	if err := v.get("/events", f.query("50"), &list); err != nil {
		return err
	}
	v.show(http.StatusOK, "events", "Events", eventsPage{
		Filter: f, Types: schemas.Types, Events: list.Items, Next: following(v.r, list.Next), Live: f == eventFilter{},
	})
	return nil
}

// following is the address of the page after this one; empty if there is none.
func following(r *http.Request, cursor string) string {
	if cursor == "" {
		return ""
	}
	q := r.URL.Query()
	q.Set("cursor", cursor)
	q.Del("notice")
	return r.URL.Path + "?" + q.Encode()
}

type eventPage struct {
	event
	Change     *schemas.VulnerabilitiesChanged
	Digest     *schemas.ManifestsChanged
	JSON       string
	Deliveries []v1.Delivery
	Names      map[string]string // of subscriptions, by id
}

func (v *visit) event() error {
	id := v.r.PathValue("id")
	var raw json.RawMessage
	if err := v.get("/events/"+url.PathEscape(id), nil, &raw); err != nil {
		return err
	}
	var p eventPage
	if err := json.Unmarshal(raw, &p.event); err != nil {
		return err
	}
	switch p.Type {
	case schemas.TypeVulnerabilitiesChanged:
		p.Change = new(schemas.VulnerabilitiesChanged)
		if err := json.Unmarshal(p.Data, p.Change); err != nil {
			return err
		}
	case schemas.TypeManifestsChanged:
		p.Digest = new(schemas.ManifestsChanged)
		if err := json.Unmarshal(p.Data, p.Digest); err != nil {
			return err
		}
	}
	var pretty []byte
	pretty, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return err
	}
	p.JSON = string(pretty)
	var list v1.Page[v1.Delivery]
	if err := v.allowed("/deliveries", url.Values{"event": {id}, "limit": {"100"}}, &list); err != nil {
		return err
	}
	p.Deliveries = list.Items
	if p.Names, err = v.subscriptionNames(); err != nil {
		return err
	}
	v.show(http.StatusOK, "event", shortType(p.Type), p)
	return nil
}

// subscriptionNames are the names of the subscriptions that the token may see,
// by id.
func (v *visit) subscriptionNames() (map[string]string, error) {
	names := map[string]string{}
	q := url.Values{"limit": {"500"}}
	for range 20 {
		var list v1.Page[schemas.Subscription]
		err := v.allowed("/subscriptions", q, &list)
		if p, ok := errors.AsType[*problem](err); ok && p.Status == http.StatusServiceUnavailable {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		for _, s := range list.Items {
			names[s.ID] = called(s)
		}
		if list.Next == "" {
			break
		}
		q.Set("cursor", list.Next)
	}
	return names, nil
}
