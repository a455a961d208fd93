package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

type subscriptionsCmd struct {
	List   subListCmd   `cmd:"" default:"withargs" help:"List subscriptions (the default)."`
	Show   subShowCmd   `cmd:"" help:"Show one as JSON, as the API has it."`
	Pause  subPauseCmd  `cmd:"" help:"Hold deliveries back; they gather."`
	Resume subResumeCmd `cmd:"" help:"Deliver again, also after it was disabled."`
	Test   subTestCmd   `cmd:"" help:"Send a test event."`
	Rotate subRotateCmd `cmd:"" help:"Make a new signing secret; the old one goes on signing for a while."`
	Delete subDeleteCmd `cmd:"" help:"Unsubscribe."`
}

type subListCmd struct{}

func (subListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	subs, err := list[schemas.Subscription](cl, "/subscriptions", nil, 0)
	if err != nil {
		return err
	}
	return e.print(subs, func() error {
		t := terminal.NewTable("ID", "NAME", "STATE", "SINK", "TYPES", "FILTERS", "OWNER", "REASON")
		for _, s := range subs {
			t.Row(e.id(s.ID), s.Name, e.state(s.State), s.Sink, typesOf(s), filtersOf(s.Filters), s.Owner, terminal.Clip(s.Reason, 60))
		}
		return e.table(t, "No subscriptions. `tocsin subscribe URL` makes one.")
	})
}

// typesOf names the types in short.
func typesOf(s schemas.Subscription) string {
	if len(s.Types) == 0 {
		return "all"
	}
	out := make([]string, len(s.Types))
	for i, t := range s.Types {
		out[i] = strings.TrimSuffix(strings.TrimPrefix(t, schemas.TypePrefix), ".v1")
	}
	return strings.Join(out, " ")
}

// filtersOf is filters in words.
func filtersOf(filters []schemas.Filter) string {
	var out []string
	pairs := func(m map[string]string, form string) {
		for k, v := range m {
			out = append(out, fmt.Sprintf(form, k, v))
		}
	}
	for _, f := range filters {
		pairs(f.Exact, "%s=%s")
		pairs(f.Prefix, "%s=%s*")
		pairs(f.Suffix, "%s=*%s")
		switch {
		case f.SQL != "":
			out = append(out, f.SQL)
		case f.CEL != "":
			out = append(out, "cel: "+f.CEL)
		case f.Not != nil:
			out = append(out, "not ("+filtersOf([]schemas.Filter{*f.Not})+")")
		case f.All != nil:
			out = append(out, "("+filtersOf(f.All)+")")
		case f.Any != nil:
			parts := make([]string, len(f.Any))
			for i, a := range f.Any {
				parts[i] = filtersOf([]schemas.Filter{a})
			}
			out = append(out, "("+strings.Join(parts, " or ")+")")
		}
	}
	return strings.Join(out, ", ")
}

type subID struct {
	ID string `arg:"" help:"Id of the subscription, its beginning or end, or its name." predictor:"subscription"`
}

// act does one thing to a subscription and prints what it answers.
func (c subID) act(e *env, method, path string, in any) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	if c.ID, err = cl.subscriptionID(c.ID); err != nil {
		return err
	}
	var s schemas.Subscription
	if err := cl.call(method, "/subscriptions/"+seg(c.ID)+path, nil, in, &s); err != nil {
		return err
	}
	if path == "" {
		e.json = true
	}
	return e.print(s, func() error {
		if err := e.printf("%s  %s  %s\n", s.ID, e.style.State(s.State), terminal.Clean(s.Sink)); err != nil {
			return err
		}
		if s.Secret != "" {
			e.notef("New signing secret, shown this once: %s", e.notice.Bold(s.Secret))
		}
		return nil
	})
}

type subShowCmd struct{ subID }

func (c subShowCmd) Run(e *env) error { return c.act(e, http.MethodGet, "", nil) }

type subPauseCmd struct{ subID }

func (c subPauseCmd) Run(e *env) error { return c.act(e, http.MethodPost, "/pause", nil) }

type subResumeCmd struct{ subID }

func (c subResumeCmd) Run(e *env) error { return c.act(e, http.MethodPost, "/resume", nil) }

type subRotateCmd struct {
	subID
	Secret  string        `help:"The new secret (whsec_…); made and printed if absent." env:"TOCSIN_WEBHOOK_SECRET" placeholder:"SECRET"`
	Kind    string        `help:"Of one to be made: v1 (HMAC) or v1a (ed25519)." enum:"v1,v1a" default:"v1"`
	Overlap time.Duration `help:"How long the old secret goes on signing beside the new one." default:"24h"`
}

func (c subRotateCmd) Run(e *env) error {
	return c.act(e, http.MethodPost, "/rotate", v1.RotateRequest{Secret: c.Secret, Kind: c.Kind, Overlap: new(int(c.Overlap.Seconds()))})
}

type subTestCmd struct{ subID }

func (c subTestCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	if c.ID, err = cl.subscriptionID(c.ID); err != nil {
		return err
	}
	var out struct {
		EventID string `json:"event_id"`
	}
	if err := cl.call(http.MethodPost, "/subscriptions/"+seg(c.ID)+"/test", nil, nil, &out); err != nil {
		return err
	}
	var sent v1.Page[v1.Delivery]
	if err := cl.call(http.MethodGet, "/deliveries", url.Values{"event": {out.EventID}}, nil, &sent); err != nil {
		return err
	}
	return e.print(out, func() error {
		if len(sent.Items) > 0 && e.held(sent.Items[0]) {
			e.notef("Waits: nothing is sent to this subscription before then. To try it now: tocsin subscriptions resume %s", c.ID)
			return e.printf("%s\n", out.EventID)
		}
		e.notef("Sent. What came of it: tocsin deliveries --event %s", out.EventID)
		return e.printf("%s\n", out.EventID)
	})
}

type subDeleteCmd struct {
	IDs []string `arg:"" name:"id" help:"Ids or names of subscriptions." predictor:"subscription"`
}

func (c subDeleteCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	for _, meant := range c.IDs {
		id, err := cl.subscriptionID(meant)
		if err != nil {
			return err
		}
		if err := cl.call(http.MethodDelete, "/subscriptions/"+seg(id), nil, nil, nil); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		e.notef("deleted %s", id)
	}
	return nil
}
