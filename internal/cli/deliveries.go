package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type deliveriesCmd struct {
	List deliveriesListCmd `cmd:"" default:"withargs" help:"List deliveries, newest first (the default)."`
	Show deliveriesShowCmd `cmd:"" help:"Show one delivery and its attempts."`
	Drop deliveriesDropCmd `cmd:"" help:"Give deliveries up."`
}

// selection picks deliveries.
type selection struct {
	Subscription string `help:"Only this subscription's: its id or name." placeholder:"ID" predictor:"subscription"`
	Event        string `help:"Only this event's." placeholder:"ID"`
	State        string `help:"Only deliveries in this state: pending, delivered, dead or dropped." placeholder:"STATE" predictor:"delivery-state"`
	Since        string `help:"Not before: 2h (ago), 14:30, noon, or a date." placeholder:"TIME"`
	Until        string `help:"Before this time." placeholder:"TIME"`
}

func (s selection) query(e *env, cl *client) (url.Values, error) {
	q := url.Values{}
	var err error
	if s.Subscription != "" {
		if s.Subscription, err = cl.subscriptionID(s.Subscription); err != nil {
			return nil, err
		}
	}
	if s.Event != "" {
		if s.Event, err = cl.eventID(s.Event); err != nil {
			return nil, err
		}
	}
	setIf(q, "subscription", s.Subscription)
	setIf(q, "event", s.Event)
	setIf(q, "state", s.State)
	return q, span(e, q, s.Since, s.Until)
}

type deliveriesListCmd struct {
	selection
	Limit int `short:"n" help:"At most so many; 0 for all." default:"50"`
}

func (deliveriesListCmd) Help() string {
	return "Examples:\n  tocsin deliveries --state dead\n  tocsin deliveries --subscription ID --since 1h"
}

func (c *deliveriesListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	q, err := c.query(e, cl)
	if err != nil {
		return err
	}
	ds, err := list[v1.Delivery](cl, "/deliveries", q, c.Limit)
	if err != nil {
		return err
	}
	return e.print(ds, func() error { return e.deliveries(ds) })
}

// typeName is an event's type as a table shows it: in short on a terminal.
func (e *env) typeName(t string) string {
	if e.width == 0 {
		return t
	}
	return shortType(t)
}

func (e *env) deliveries(ds []v1.Delivery) error {
	t := terminal.NewTable("ID", "EVENT", "TYPE", "SUBSCRIPTION", "STATE", "ATTEMPTS", "CREATED", "NEXT", "REASON")
	for _, d := range ds {
		next := ""
		if d.DueAt != nil && d.State == "pending" {
			next = e.ago(d.DueAt)
		}
		t.Row(e.id(d.ID), e.id(d.EventID), e.typeName(d.EventType), e.id(d.Subscription), e.state(d.State), d.Attempts, e.ago(&d.CreatedAt), next, terminal.Clip(d.Reason, 60))
	}
	return e.table(t, "No deliveries.")
}

type deliveriesShowCmd struct {
	ID string `arg:"" help:"Id of the delivery, its beginning or end."`
}

func (c *deliveriesShowCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	if c.ID, err = cl.deliveryID(c.ID); err != nil {
		return err
	}
	var out struct {
		v1.Delivery
		Log []v1.Attempt `json:"log"`
	}
	if err := cl.call(http.MethodGet, "/deliveries/"+seg(c.ID), nil, nil, &out.Delivery); err != nil {
		return err
	}
	var page v1.Page[v1.Attempt]
	if err := cl.call(http.MethodGet, "/deliveries/"+seg(c.ID)+"/attempts", nil, nil, &page); err != nil {
		return err
	}
	out.Log = page.Items
	return e.print(out, func() error {
		if err := e.deliveries([]v1.Delivery{out.Delivery}); err != nil {
			return err
		}
		t := terminal.NewTable("AT", "OUTCOME", "STATUS", "TOOK", "ERROR", "RESPONSE")
		for _, a := range out.Log {
			status := ""
			if a.Status > 0 {
				status = fmt.Sprint(a.Status)
			}
			t.Row(a.At.Local().Format("2006-01-02 15:04:05"), e.state(a.Outcome), status, fmt.Sprintf("%.1fms", a.DurationMS), terminal.Clip(a.Error, 80), terminal.Clip(a.Response, 80))
		}
		if err := e.printf("\n"); err != nil {
			return err
		}
		return e.table(t, "No attempts yet.")
	})
}

// held says whether a delivery waits although it was asked for now: its
// subscription is to be left alone. A note says until when.
func (e *env) held(d v1.Delivery) bool {
	if d.State != "pending" || d.DueAt == nil || d.DueAt.Sub(e.now()) < time.Second {
		return false
	}
	e.notef("Due %s, at %s: the target asked for a pause, or its breaker is open.", e.ago(d.DueAt), d.DueAt.Local().Format("2006-01-02 15:04:05"))
	return true
}

// bulk does one thing to deliveries: those named, or all that are selected.
func (s selection) bulk(e *env, ids []string, all bool, verb, done string) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	n := 0
	if len(ids) > 0 {
		if s != (selection{}) || all {
			return usage("give ids or a selection, not both")
		}
		for _, meant := range ids {
			id, err := cl.deliveryID(meant)
			if err != nil {
				return err
			}
			var d v1.Delivery
			if err := cl.call(http.MethodPost, "/deliveries/"+seg(id)+"/"+verb, nil, nil, &d); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			e.held(d)
			n++
		}
	} else {
		q, err := s.query(e, cl)
		if err != nil {
			return err
		}
		if len(q) == 0 && !all {
			return usage("say which deliveries: ids, --subscription, --event, --state, --since, --until, or --all")
		}
		if all {
			q.Set("all", "true")
		}
		var r v1.BulkResult
		if err := cl.call(http.MethodPost, "/deliveries/"+verb, q, nil, &r); err != nil {
			return err
		}
		n = r.Deliveries
	}
	return e.print(v1.BulkResult{Deliveries: n}, func() error {
		if n == 1 {
			return e.printf("%s 1 delivery\n", done)
		}
		return e.printf("%s %d deliveries\n", done, n)
	})
}

type deliveriesDropCmd struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids of deliveries."`
	selection
	All bool `help:"All there are."`
}

func (c *deliveriesDropCmd) Run(e *env) error { return c.bulk(e, c.IDs, c.All, "drop", "dropped") }

type replayCmd struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids of deliveries."`
	selection
	All bool `help:"All there are."`
}

func (replayCmd) Help() string {
	return `A replay delivers the same event under the same id, now, whatever became of it before.

Examples:
  tocsin replay 0198d1c4-…
  tocsin replay --state dead
  tocsin replay --subscription ID --since noon`
}

func (c *replayCmd) Run(e *env) error { return c.bulk(e, c.IDs, c.All, "replay", "replaying") }
