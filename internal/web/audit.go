package web

import (
	"net/http"
	"net/url"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

type auditPage struct {
	Actor, Action, Object string
	Entries               []v1.AuditEntry
	Next                  string
}

func (v *visit) audit() error {
	in := v.r.URL.Query()
	text := func(k string) string { return strings.TrimSpace(in.Get(k)) }
	p := auditPage{Actor: text("actor"), Action: text("action"), Object: text("object")}
	q := url.Values{"limit": {"50"}}
	for k, val := range map[string]string{"actor": p.Actor, "action": p.Action, "object": p.Object, "cursor": in.Get("cursor")} {
		if val != "" {
			q.Set(k, val)
		}
	}
	var list v1.Page[v1.AuditEntry]
	if err := v.get("/audit", q, &list); err != nil {
		return err
	}
	p.Entries, p.Next = list.Items, following(v.r, list.Next)
	v.show(http.StatusOK, "audit", "Audit log", p)
	return nil
}
