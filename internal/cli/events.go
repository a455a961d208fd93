package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"tocsin.dev/tocsin/internal/listen"
)

type eventsCmd struct {
	List eventsListCmd `cmd:"" default:"withargs" help:"List events, newest first (the default)."`
	Show eventsShowCmd `cmd:"" help:"Show one event in full."`
}

type eventsListCmd struct {
	Types    []string `name:"type" help:"Only these types, long or short." placeholder:"TYPE" predictor:"event-type"`
	Image    string   `help:"Only images with names like this; * stands for anything." placeholder:"PATTERN"`
	Digest   string   `help:"Only events of this manifest." placeholder:"DIGEST"`
	Updater  string   `help:"Only events by this updater." placeholder:"NAME"`
	Severity string   `help:"At least this severe." placeholder:"SEVERITY" predictor:"severity"`
	Since    string   `help:"Not before: 2h (ago), 14:30, noon, or a date." placeholder:"TIME"`
	Until    string   `help:"Before this time." placeholder:"TIME"`
	Limit    int      `short:"n" help:"At most so many; 0 for all." default:"20"`
	Findings int      `help:"Lines of findings shown for one event; 0 for all." default:"5"`
}

func (eventsListCmd) Help() string {
	return "Examples:\n  tocsin events\n  tocsin events --type vulnerabilities_changed --severity high --since noon\n  tocsin events --image 'team/*' -o json"
}

func (c *eventsListCmd) query(e *env) (url.Values, error) {
	q := url.Values{}
	for _, t := range c.Types {
		full, err := eventType(t)
		if err != nil {
			return nil, err
		}
		q.Add("type", full)
	}
	setIf(q, "image", c.Image)
	setIf(q, "subject", c.Digest)
	setIf(q, "updater", c.Updater)
	if c.Severity != "" {
		name, err := severityName(c.Severity)
		if err != nil {
			return nil, err
		}
		q.Set("severity", name)
	}
	return q, span(e, q, c.Since, c.Until)
}

// span sets since and until.
func span(e *env, q url.Values, since, until string) error {
	for name, text := range map[string]string{"since": since, "until": until} {
		t, err := moment(e.now(), text)
		if err != nil {
			return err
		}
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return nil
}

func (c *eventsListCmd) Run(e *env) error {
	q, err := c.query(e)
	if err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	events, err := list[json.RawMessage](cl, "/events", q, c.Limit)
	if err != nil {
		return err
	}
	return e.print(events, func() error {
		if len(events) == 0 {
			e.notef("No events.")
		}
		for _, raw := range events {
			if err := e.event(raw, c.Findings); err != nil {
				return err
			}
		}
		return nil
	})
}

// event prints one event in words.
func (e *env) event(raw json.RawMessage, findings int) error {
	var ev event.Event
	if err := json.Unmarshal(raw, &ev); err != nil {
		return fmt.Errorf("the server's event does not read: %w", err)
	}
	p := listen.Printer{W: e.out, Style: e.style, Findings: findings}
	return p.Event(ev)
}

type eventsShowCmd struct {
	ID string `arg:"" help:"Id of the event, its beginning or end."`
}

func (c *eventsShowCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	if c.ID, err = cl.eventID(c.ID); err != nil {
		return err
	}
	var raw json.RawMessage
	if err := cl.call(http.MethodGet, "/events/"+seg(c.ID), nil, nil, &raw); err != nil {
		return err
	}
	return e.print(raw, func() error { return e.event(raw, 0) })
}
