package web

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"tocsin.dev/tocsin/internal/access"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// nowPage is the first page: what there is, what changed, and what is wrong.
type nowPage struct {
	Stats   v1.Stats
	Images  int // indexed
	Changes []event
	Trouble []v1.SubscriptionStats
	Feeds   []feedLine
	Failing int // feeds that fail
}

// A feedLine is one updater set, in a line.
type feedLine struct {
	Name    string
	Problem string
	LastOK  *time.Time
	Running bool
}

func (v *visit) admin() bool { return v.who.May(access.Admin) }

func (v *visit) now() error {
	var p nowPage
	if err := v.allowed("/stats", nil, &p.Stats); err != nil {
		return err
	}
	p.Images = p.Stats.Images["indexed"]
	since := v.Now().Add(-24 * time.Hour).UTC().Format(time.RFC3339)
	var changes v1.Page[event]
	if err := v.allowed("/events", url.Values{"type": {schemas.TypeVulnerabilitiesChanged}, "since": {since}, "limit": {"20"}}, &changes); err != nil {
		return err
	}
	p.Changes = changes.Items
	for _, s := range p.Stats.Subscriptions {
		if troubled(s) {
			p.Trouble = append(p.Trouble, s)
		}
	}
	var sets v1.Page[v1.UpdaterSet]
	if err := v.allowed("/updaters", nil, &sets); err != nil {
		return err
	}
	for _, s := range sets.Items {
		if !s.Enabled {
			continue
		}
		l := feedLine{Name: s.Name, Running: s.Running, Problem: s.Error}
		for _, u := range s.Updaters {
			if u.Error != "" && l.Problem == "" {
				l.Problem = u.Name + ": " + u.Error
			}
			if u.LastOK != nil && (l.LastOK == nil || u.LastOK.Before(*l.LastOK)) {
				l.LastOK = u.LastOK
			}
		}
		if l.Problem != "" {
			p.Failing++
		}
		p.Feeds = append(p.Feeds, l)
	}
	slices.SortStableFunc(p.Feeds, func(a, b feedLine) int {
		switch {
		case (a.Problem != "") == (b.Problem != ""):
			return 0
		case a.Problem != "":
			return -1
		}
		return 1
	})
	v.show(http.StatusOK, "now", "Now", p)
	return nil
}

// troubled reports whether somebody should look at a subscription.
func troubled(s v1.SubscriptionStats) bool {
	return s.Dead > 0 || s.Breaker == "open" || s.Breaker == "half-open" || s.State == "disabled" || s.OldestSeconds > 300
}
