package app

import (
	"bytes"
	"encoding/json"
	"testing"
)

const dashboardFile = "../../deploy/observability/dashboard.json"

// A panel is one picture of the dashboard.
type panel struct {
	title, unit string
	stat        bool        // a number, not a line
	bad         string      // the value from which a number is red
	targets     [][2]string // expression, legend
}

// rows are the dashboard, from the question that is asked first.
var rows = []struct {
	title  string
	panels []panel
}{
	{"Is everybody told?", []panel{
		{title: "Deliveries owed", stat: true, targets: [][2]string{{`max(tocsin_delivery_backlog)`, ""}}},
		{title: "The oldest waits for", unit: "s", stat: true, bad: "600", targets: [][2]string{{`max(tocsin_delivery_oldest_seconds)`, ""}}},
		{title: "Breakers not closed", stat: true, bad: "1", targets: [][2]string{{`sum(tocsin_delivery_breakers_open)`, ""}}},
		{title: "Given up in an hour", stat: true, bad: "1", targets: [][2]string{{`sum(increase(tocsin_delivery_dead_letters_total[1h]))`, ""}}},
		{title: "Attempts a second, by outcome", unit: "reqps", targets: [][2]string{{`sum by (class) (rate(tocsin_delivery_attempts_total[$__rate_interval]))`, "{{class}}"}}},
		{title: "How long an attempt takes", unit: "s", targets: [][2]string{
			{`histogram_quantile(0.5, sum by (le, protocol) (rate(tocsin_delivery_attempt_seconds_bucket[$__rate_interval])))`, "p50 {{protocol}}"},
			{`histogram_quantile(0.99, sum by (le, protocol) (rate(tocsin_delivery_attempt_seconds_bucket[$__rate_interval])))`, "p99 {{protocol}}"},
		}},
	}},
	{"What happens?", []panel{
		{title: "Events a minute, by type", targets: [][2]string{{`sum by (type) (rate(tocsin_notifier_events_total[$__rate_interval])) * 60`, "{{type}}"}}},
		{title: "From an update to its events", unit: "s", targets: [][2]string{{`histogram_quantile(0.99, sum by (le, kind) (rate(tocsin_matcher_change_seconds_bucket[$__rate_interval])))`, "p99 {{kind}}"}}},
		{title: "Updates not told of yet", stat: true, bad: "1", targets: [][2]string{{`max(tocsin_matcher_pending_updates)`, ""}}},
		{title: "Images", stat: true, targets: [][2]string{{`max by (state) (tocsin_images)`, "{{state}}"}}},
	}},
	{"Are the feeds fresh?", []panel{
		{title: "Age of the worst updater", unit: "s", targets: [][2]string{{`max by (set) (tocsin_feed_age_seconds)`, "{{set}}"}}},
		{title: "Failing updaters", targets: [][2]string{{`max by (set) (tocsin_feed_failing_updaters)`, "{{set}}"}}},
		{title: "Held back", stat: true, bad: "1", targets: [][2]string{{`sum(max by (set) (tocsin_feed_held_updaters))`, ""}}},
		{title: "How long a run takes", unit: "s", targets: [][2]string{{`histogram_quantile(0.99, sum by (le, set) (rate(tocsin_updater_set_seconds_bucket[1h])))`, "p99 {{set}}"}}},
	}},
	{"Is the work done?", []panel{
		{title: "Jobs", targets: [][2]string{{`max by (state) (tocsin_jobs)`, "{{state}}"}}},
		{title: "The oldest queued job", unit: "s", targets: [][2]string{{`max by (kind) (tocsin_job_oldest_seconds)`, "{{kind}}"}}},
		{title: "Messages not recorded", targets: [][2]string{{`max by (subject) (tocsin_intake_messages)`, "{{subject}}"}}},
		{title: "How long an index takes", unit: "s", targets: [][2]string{{`histogram_quantile(0.99, sum by (le) (rate(tocsin_indexer_attempt_seconds_bucket[$__rate_interval])))`, "p99"}}},
	}},
	{"How are the processes?", []panel{
		{title: "Requests a second, by status", unit: "reqps", targets: [][2]string{{`sum by (status) (rate(tocsin_http_request_seconds_count[$__rate_interval]))`, "{{status}}"}}},
		{title: "How long a request takes", unit: "s", targets: [][2]string{{`histogram_quantile(0.99, sum by (le, route) (rate(tocsin_http_request_seconds_bucket[$__rate_interval])))`, "p99 {{route}}"}}},
		{title: "Memory", unit: "bytes", targets: [][2]string{{`process_resident_memory_bytes and on (instance) tocsin_build_info`, "{{instance}}"}}},
		{title: "Database", unit: "bytes", targets: [][2]string{{`max(tocsin_database_bytes)`, ""}}},
	}},
}

// dashboard is the JSON that Grafana imports.
func dashboard(t *testing.T) string {
	t.Helper()
	type m = map[string]any
	source := m{"type": "prometheus", "uid": "${source}"}
	var panels []m
	y, id := 0, 0
	for _, r := range rows {
		id++
		panels = append(panels, m{"id": id, "type": "row", "title": r.title, "collapsed": false, "panels": []m{}, "gridPos": m{"h": 1, "w": 24, "x": 0, "y": y}})
		y++
		x, tallest := 0, 0
		for _, p := range r.panels {
			w, h, kind := 12, 8, "timeseries"
			if p.stat {
				w, h, kind = 6, 4, "stat"
			}
			if x+w > 24 {
				x, y, tallest = 0, y+tallest, 0
			}
			steps := []m{{"color": "green", "value": nil}}
			if p.bad != "" {
				steps = append(steps, m{"color": "red", "value": json.Number(p.bad)})
			}
			var targets []m
			for i, tg := range p.targets {
				targets = append(targets, m{"refId": string(rune('A' + i)), "datasource": source, "expr": tg[0], "legendFormat": tg[1]})
			}
			id++
			panels = append(panels, m{
				"id": id, "type": kind, "title": p.title, "datasource": source, "gridPos": m{"h": h, "w": w, "x": x, "y": y}, "targets": targets,
				"fieldConfig": m{"defaults": m{"unit": p.unit, "min": 0, "thresholds": m{"mode": "absolute", "steps": steps}}, "overrides": []m{}},
			})
			x, tallest = x+w, max(tallest, h)
		}
		y += tallest
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m{
		"__inputs":      []m{{"name": "source", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}},
		"uid":           "tocsin",
		"title":         "Tocsin",
		"tags":          []string{"tocsin"},
		"schemaVersion": 39,
		"editable":      true,
		"refresh":       "1m",
		"time":          m{"from": "now-24h", "to": "now"},
		"templating":    m{"list": []m{{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}}},
		"panels":        panels,
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
