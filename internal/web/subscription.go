package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/notifier/filter/flags"
	"tocsin.dev/tocsin/schemas"
)

// called is what a subscription is called on a page.
func called(s schemas.Subscription) string { return cmp.Or(s.Name, s.Sink) }

type subscriptionLine struct {
	schemas.Subscription
	Stats v1.SubscriptionStats
}

func (v *visit) subscriptions() error {
	q := url.Values{"limit": {"100"}}
	if c := v.r.URL.Query().Get("cursor"); c != "" {
		q.Set("cursor", c)
	}
	var list v1.Page[schemas.Subscription]
	if err := v.get("/subscriptions", q, &list); err != nil {
		return err
	}
	stats, err := v.stats()
	if err != nil {
		return err
	}
	var p struct {
		Lines []subscriptionLine
		Next  string
	}
	for _, s := range list.Items {
		p.Lines = append(p.Lines, subscriptionLine{s, stats[s.ID]})
	}
	p.Next = following(v.r, list.Next)
	v.show(http.StatusOK, "subscriptions", "Subscriptions", p)
	return nil
}

// stats are the figures of every subscription, by id.
func (v *visit) stats() (map[string]v1.SubscriptionStats, error) {
	var st v1.Stats
	if err := v.allowed("/stats", nil, &st); err != nil {
		return nil, err
	}
	out := map[string]v1.SubscriptionStats{}
	for _, s := range st.Subscriptions {
		out[s.ID] = s
	}
	return out, nil
}

type subscriptionPage struct {
	subscriptionLine
	Filters    string // as JSON
	State      string // of the deliveries that are listed
	Deliveries []v1.Delivery
	Next       string
	Secret     string // the new signing secret, shown once
}

func (v *visit) subscription() error { return v.showSubscription("") }

func (v *visit) showSubscription(secret string) error {
	id := v.r.PathValue("id")
	p := subscriptionPage{State: v.r.URL.Query().Get("state"), Secret: secret}
	if err := v.get("/subscriptions/"+url.PathEscape(id), nil, &p.Subscription); err != nil {
		return err
	}
	stats, err := v.stats()
	if err != nil {
		return err
	}
	p.Stats = stats[p.ID]
	if len(p.Subscription.Filters) > 0 {
		p.Filters = indented(p.Subscription.Filters)
	}
	q := url.Values{"subscription": {p.ID}, "limit": {"50"}}
	for k, val := range map[string]string{"state": p.State, "cursor": v.r.URL.Query().Get("cursor")} {
		if val != "" {
			q.Set(k, val)
		}
	}
	var list v1.Page[v1.Delivery]
	if err := v.get("/deliveries", q, &list); err != nil {
		return err
	}
	p.Deliveries, p.Next = list.Items, following(v.r, list.Next)
	v.show(http.StatusOK, "subscription", called(p.Subscription), p)
	return nil
}

// subscriptionActions are what can be done to a subscription with a button:
// the API's path, and the notice that says it is done.
var subscriptionActions = map[string]struct{ path, notice string }{
	"pause": {"/pause", "paused"}, "resume": {"/resume", "resumed"}, "test": {"/test", "test"}, "current": {"/current", "current"},
}

func (v *visit) changeSubscription() error {
	id, what := url.PathEscape(v.r.PathValue("id")), v.r.PathValue("what")
	if a, ok := subscriptionActions[what]; ok {
		if err := v.ask(http.MethodPost, "/subscriptions/"+id+a.path, nil, nil, nil); err != nil {
			return err
		}
		return v.done("/ui/subscriptions/"+id, a.notice)
	}
	switch what {
	case "rotate":
		var s schemas.Subscription
		if err := v.ask(http.MethodPost, "/subscriptions/"+id+"/rotate", nil, v1.RotateRequest{}, &s); err != nil {
			return err
		}
		return v.showSubscription(s.Secret)
	case "replay", "drop":
		q := url.Values{"subscription": {v.r.PathValue("id")}, "state": {"dead"}}
		if err := v.ask(http.MethodPost, "/deliveries/"+what, q, nil, nil); err != nil {
			return err
		}
		return v.done("/ui/subscriptions/"+id, map[string]string{"replay": "replayed", "drop": "dropped"}[what])
	case "delete":
		if err := v.ask(http.MethodDelete, "/subscriptions/"+id, nil, nil, nil); err != nil {
			return err
		}
		return v.done("/ui/subscriptions", "deleted")
	}
	return v.nowhere()
}

// wish is the form of a new subscription.
type wish struct {
	Name, Sink, Severity, Image, Updater, SQL string
	Types                                     []string
	KEV, Fixable, Ordered                     bool
	Granularity                               string
}

func readWish(f url.Values) wish {
	text := func(k string) string { return strings.TrimSpace(f.Get(k)) }
	return wish{
		Name: text("name"), Sink: text("sink"), Severity: f.Get("severity"), Image: text("image"), Updater: text("updater"), SQL: text("sql"),
		Types: f["type"], KEV: f.Get("kev") != "", Fixable: f.Get("fixable") != "", Ordered: f.Get("ordered") != "", Granularity: f.Get("granularity"),
	}
}

// Wants reports whether the form asks for events of the type.
func (w wish) Wants(eventType string) bool { return slices.Contains(w.Types, eventType) }

// subscription is what the form asks for, as the API has it.
func (w wish) subscription() (schemas.Subscription, error) {
	s := schemas.Subscription{
		Name: w.Name, Sink: w.Sink, Types: w.Types,
		Config: schemas.SubscriptionConfig{Ordered: w.Ordered, Granularity: w.Granularity},
	}
	var err error
	s.Filters, err = flags.Filters(flags.Flags{Severity: w.Severity, Fixable: w.Fixable, KEV: w.KEV, Image: w.Image, Updater: w.Updater})
	if err != nil {
		return s, &problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	}
	if w.SQL != "" {
		s.Filters = append(s.Filters, schemas.Filter{SQL: w.SQL})
	}
	return s, nil
}

type newSubscriptionPage struct {
	Wish    wish
	Types   []string
	Problem string
	DryRun  *v1.DryRun
	Sample  []event
	Made    *schemas.Subscription
}

func (v *visit) newSubscription() error {
	w := readWish(v.r.URL.Query())
	if len(w.Types) == 0 {
		w.Types = []string{schemas.TypeVulnerabilitiesChanged}
	}
	v.show(http.StatusOK, "newsubscription", "New subscription", newSubscriptionPage{Wish: w, Types: schemas.Types})
	return nil
}

// makeSubscription shows what the form would have matched, or makes the
// subscription.
func (v *visit) makeSubscription() error {
	p := newSubscriptionPage{Wish: readWish(v.r.PostForm), Types: schemas.Types}
	status := http.StatusOK
	s, err := p.Wish.subscription()
	if err == nil && v.r.PostForm.Get("do") == "try" {
		err = v.tryOut(s, &p)
	} else if err == nil {
		var made schemas.Subscription
		if err = v.ask(http.MethodPost, "/subscriptions", nil, s, &made); err == nil {
			p.Made = &made
			status = http.StatusCreated
		}
	}
	if err != nil {
		pr, ok := err.(*problem)
		if !ok || pr.Status >= 500 {
			return err
		}
		p.Problem, status = pr.Error(), pr.Status
	}
	v.show(status, "newsubscription", "New subscription", p)
	return nil
}

func (v *visit) tryOut(s schemas.Subscription, p *newSubscriptionPage) error {
	s.Sink = cmp.Or(s.Sink, "https://example.com/")
	p.DryRun = new(v1.DryRun)
	if err := v.ask(http.MethodPost, "/subscriptions/dry-run", nil, s, p.DryRun); err != nil {
		p.DryRun = nil
		return err
	}
	for _, id := range p.DryRun.Sample[:min(len(p.DryRun.Sample), 10)] {
		var e event
		if err := v.get("/events/"+url.PathEscape(id), nil, &e); err != nil {
			return err
		}
		p.Sample = append(p.Sample, e)
	}
	return nil
}
