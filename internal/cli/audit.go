package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type auditCmd struct {
	Actor  string `help:"Only what this token did, by name or id; tocsin: what the server does by itself." placeholder:"NAME"`
	Action string `help:"Only this action or kind, as subscriptions.pause or tokens." placeholder:"ACTION"`
	Object string `help:"Only what was done to this, by id or a part of the name." placeholder:"TEXT"`
	Since  string `help:"Not before: 2h (ago), 14:30, noon, or a date." placeholder:"TIME"`
	Until  string `help:"Before this time." placeholder:"TIME"`
	Limit  int    `short:"n" help:"At most so many; 0 for all." default:"50"`
	Export bool   `help:"Write all that is selected as JSON lines, newest first, whatever the limit."`
}

func (auditCmd) Help() string {
	return "Examples:\n  tocsin audit --since today\n  tocsin audit --action tokens\n  tocsin audit --actor ci --since 2026-11-01 --export"
}

func (c *auditCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	q := url.Values{}
	setIf(q, "actor", c.Actor)
	setIf(q, "action", c.Action)
	setIf(q, "object", c.Object)
	if err := span(e, q, c.Since, c.Until); err != nil {
		return err
	}
	if c.Export {
		return c.export(e, cl, q)
	}
	entries, err := list[v1.AuditEntry](cl, "/audit", q, c.Limit)
	if err != nil {
		return err
	}
	return e.print(entries, func() error {
		t := terminal.NewTable("WHEN", "ACTOR", "ACTION", "OBJECT", "OUTCOME", "FROM")
		for _, a := range entries {
			t.Row(e.ago(&a.At), a.Actor, a.Action, terminal.Clip(a.Object, 80), outcomeOf(a), a.Remote)
		}
		return e.table(t, "Nothing of that kind was done.")
	})
}

func outcomeOf(a v1.AuditEntry) string {
	switch {
	case a.Status == nil && a.Request != "":
		return "unknown"
	case a.Status == nil:
		return ""
	case *a.Status < 400:
		return "done"
	}
	return "failed: " + strconv.Itoa(*a.Status)
}

// export writes page after page, so that a log of any length takes no memory.
func (c *auditCmd) export(e *env, cl *client, q url.Values) error {
	q.Set("limit", "500")
	out := json.NewEncoder(e.out)
	out.SetEscapeHTML(false)
	for {
		var page v1.Page[v1.AuditEntry]
		if err := cl.call(http.MethodGet, "/audit", q, nil, &page); err != nil {
			return err
		}
		for _, a := range page.Items {
			if err := out.Encode(a); err != nil {
				return fmt.Errorf("writing the audit log: %w", err)
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Set("cursor", page.Next)
	}
}
