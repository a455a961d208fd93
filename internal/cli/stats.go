package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

func (e *env) stats(s v1.Stats) error {
	sum := func(m map[string]int) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, fmt.Sprintf("%d %s", m[k], k))
		}
		if out == nil {
			return "none"
		}
		return strings.Join(out, ", ")
	}
	d := s.Deliveries
	oldest := "-"
	if d.OldestSeconds > 0 {
		oldest = terminal.Span(time.Duration(d.OldestSeconds * float64(time.Second)))
	}
	if err := e.printf("images      %s\njobs        %s\ndeliveries  %d waiting (oldest %s), %d dead\n\n", sum(s.Images), sum(s.Jobs), d.Backlog, oldest, d.Dead); err != nil {
		return err
	}
	if t := s.Takeover; t != nil {
		if err := e.printf("takeover    %d of %d images of Clair's recorded, %d can't be; updates wait until it is done\n\n", t.Recorded, t.Images, t.Failed); err != nil {
			return err
		}
	}
	t := terminal.NewTable("SUBSCRIPTION", "NAME", "STATE", "BREAKER", "TRIED AGAIN", "WAITING", "DEAD", "24H", "SUCCESS", "P50", "P99", "LAST SUCCESS")
	for _, u := range s.Subscriptions {
		success := "-"
		if u.Attempts > 0 {
			success = fmt.Sprintf("%.1f%%", u.SuccessRate*100)
		}
		t.Row(u.ID, u.Name, e.state(u.State), e.state(u.Breaker), e.ago(u.HeldUntil), u.Backlog, u.Dead, u.Attempts, success,
			fmt.Sprintf("%.0fms", u.P50MS), fmt.Sprintf("%.0fms", u.P99MS), e.ago(u.LastSuccess))
	}
	return e.table(t, "No subscriptions.")
}

// introspectionOf finds the introspection address in a server's run.json.
func introspectionOf(run []byte) string {
	var r struct {
		Introspection string `json:"introspection"`
	}
	if json.Unmarshal(run, &r) != nil {
		return ""
	}
	return r.Introspection
}
