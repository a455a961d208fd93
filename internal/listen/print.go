package listen

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

// Printer says what is in messages, one after another. It is not safe for
// concurrent use; a [Receiver] calls it one message at a time.
type Printer struct {
	W     io.Writer
	Style terminal.Style
	// JSON writes each event as one line of structured JSON instead.
	JSON bool
	// Findings bounds the lines of findings printed for one event; 0 means all.
	Findings int
}

// Message prints one message.
func (p *Printer) Message(m Received) error {
	var b strings.Builder
	if p.JSON {
		for _, e := range m.Events {
			line, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("printing an event: %w", err)
			}
			b.Write(append(line, '\n'))
		}
		if m.Notification != nil {
			b.WriteString(terminal.Clean(string(m.Body)) + "\n")
		}
	} else {
		for _, e := range m.Events {
			p.event(&b, m, e)
		}
		if n := m.Notification; n != nil {
			p.title(&b, m, "clair notification", "")
			p.line(&b, terminal.Clean("notification "+n.ID+"  read it at "+n.Callback))
		}
	}
	_, err := io.WriteString(p.W, b.String())
	return err
}

// Event prints one event that did not come as a message.
func (p *Printer) Event(e event.Event) error {
	return p.Message(Received{At: e.Time(), Events: []event.Event{e}, Signed: true, Scheme: "-"})
}

// Changes prints lists of findings, as those of an event.
func (p *Printer) Changes(added, removed []schemas.Finding, revised []schemas.RevisedFinding) error {
	var b strings.Builder
	p.findings(&b, schemas.VulnerabilitiesChanged{Added: added, Removed: removed, Revised: revised})
	_, err := io.WriteString(p.W, b.String())
	return err
}

func (p *Printer) title(b *strings.Builder, m Received, what, about string) {
	fmt.Fprintf(b, "%s  %s", p.Style.Dim(m.At.Local().Format("15:04:05")), p.Style.Bold(what))
	if about != "" {
		b.WriteString("  " + terminal.Clean(about))
	}
	if m.Repeat {
		b.WriteString("  " + p.Style.Warn("(repeat)"))
	}
	b.WriteByte('\n')
}

func (p *Printer) line(b *strings.Builder, text string) { b.WriteString("          " + text + "\n") }

func (p *Printer) signature(m Received) string {
	switch {
	case m.Scheme == "-":
		return ""
	case m.Scheme != "":
		return "  " + p.Style.Good("signature verified ("+m.Scheme+")")
	case m.Signed:
		return "  " + p.Style.Warn("signature not checked (no --secret)")
	}
	return "  " + p.Style.Warn("not signed")
}

func (p *Printer) event(b *strings.Builder, m Received, e event.Event) {
	id := func() { p.line(b, p.Style.Dim("event "+terminal.Clean(e.ID()))+p.signature(m)) }
	decode := func(into any) bool {
		if err := json.Unmarshal(e.Data(), into); err != nil {
			p.title(b, m, terminal.Clean(e.Type()), e.Subject())
			id()
			p.line(b, p.Style.Bad("its data does not read: "+terminal.Clean(err.Error())))
			return false
		}
		return true
	}
	switch e.Type() {
	case schemas.TypeVulnerabilitiesChanged:
		var d schemas.VulnerabilitiesChanged
		if decode(&d) {
			p.title(b, m, "vulnerabilities changed", nameOf(d.Manifest)+"  "+p.counts(d.Counts))
			id()
			p.line(b, "by "+terminal.Clean(d.Update.Updater)+firstLoad(d.Update)+"  in "+terminal.Digest(terminal.Clean(d.Manifest.Digest)))
			p.findings(b, d)
		}
	case schemas.TypeManifestIndexed:
		var d schemas.ManifestIndexed
		if decode(&d) {
			p.title(b, m, "indexed", nameOf(d.Manifest)+"  "+terminal.Count(d.Packages, "package"))
			id()
			p.line(b, terminal.Digest(terminal.Clean(d.Manifest.Digest))+"  "+p.severities(d.Vulnerabilities))
			for _, w := range d.Warnings {
				p.line(b, p.Style.Warn("warning: "+terminal.Clean(w)))
			}
		}
	case schemas.TypeManifestIndexFailed:
		var d schemas.ManifestIndexFailed
		if decode(&d) {
			p.title(b, m, p.Style.Bad("indexing failed"), nameOf(d.Manifest))
			id()
			p.line(b, terminal.Clean(d.Reason)+"  after "+terminal.Count(d.Attempts, "attempt"))
		}
	case schemas.TypeManifestRetired:
		var d schemas.ManifestRetired
		if decode(&d) {
			p.title(b, m, "retired", nameOf(d.Manifest))
			id()
			p.line(b, terminal.Digest(terminal.Clean(d.Manifest.Digest))+"  no name stands for it since "+d.SupersededAt.Format(time.DateOnly))
		}
	case schemas.TypeUpdateCompleted:
		var d schemas.UpdateCompleted
		if decode(&d) {
			p.title(b, m, "update completed", d.Update.Updater+firstLoad(d.Update))
			id()
			p.line(b, fmt.Sprintf("advisories +%d −%d ~%d, %s affected", d.Added, d.Removed, d.Revised, terminal.Count(d.Manifests, "image")))
		}
	case schemas.TypeManifestsChanged:
		var d schemas.ManifestsChanged
		if decode(&d) {
			p.title(b, m, "update changed images", fmt.Sprintf("%s%s  +%d −%d ~%d", d.Update.Updater, firstLoad(d.Update), d.Counts.Added, d.Counts.Removed, d.Counts.Revised))
			id()
			p.line(b, terminal.Count(d.Total, "image")+" changed")
			p.digest(b, d)
		}
	case schemas.TypeUpdateFailed:
		var d schemas.UpdateFailed
		if decode(&d) {
			p.title(b, m, p.Style.Bad("update failed"), strings.TrimSuffix(d.Set+"/"+d.Updater, "/"))
			id()
			p.line(b, terminal.Clean(d.Reason))
		}
	case schemas.TypeUpdateHeld:
		var d schemas.UpdateHeld
		if decode(&d) {
			p.title(b, m, p.Style.Bad("update held back"), d.Updater)
			id()
			p.line(b, fmt.Sprintf("%d of %d rows are left; `tocsin updaters accept %s` lets it through", d.Rows, d.Before, terminal.Clean(d.Updater)))
		}
	case schemas.TypeUpdateStale:
		var d schemas.UpdateStale
		if decode(&d) {
			p.title(b, m, p.Style.Bad("data are stale"), strings.TrimSuffix(d.Set+"/"+d.Updater, "/")+"  failing since "+d.FailingSince.Format(time.DateOnly))
			id()
			p.line(b, terminal.Clean(d.Reason))
		}
	case schemas.TypeSubscriptionFailing, schemas.TypeSubscriptionRecovered, schemas.TypeSubscriptionDisabled:
		var d schemas.SubscriptionState
		if decode(&d) {
			p.title(b, m, strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(e.Type(), schemas.TypePrefix), ".v1"), ".", " "), or(d.Name, d.Subscription)+"  "+d.Sink)
			id()
			if d.Reason != "" {
				p.line(b, terminal.Clean(d.Reason))
			}
		}
	case schemas.TypeJobRejected:
		var d schemas.JobRejected
		if decode(&d) {
			p.title(b, m, p.Style.Bad("message rejected"), d.Kind)
			id()
			p.line(b, terminal.Clean(d.Reason))
		}
	case schemas.TypePing:
		var d schemas.Ping
		if decode(&d) {
			p.title(b, m, "ping", d.Message)
			id()
		}
	default:
		p.title(b, m, terminal.Clean(e.Type()), e.Subject())
		id()
	}
}

func (p *Printer) counts(c schemas.Counts) string {
	return fmt.Sprintf("+%d −%d ~%d", c.Added, c.Removed, c.Revised)
}

func (p *Printer) findings(b *strings.Builder, d schemas.VulnerabilitiesChanged) {
	left := p.Findings
	if left == 0 {
		left = len(d.Added) + len(d.Removed) + len(d.Revised)
	}
	hidden := 0
	show := func(mark string, f schemas.Finding, rest string) {
		if left == 0 {
			hidden++
			return
		}
		left--
		p.line(b, mark+" "+p.Finding(f)+rest)
	}
	for _, f := range d.Added {
		show(p.Style.Bad("+"), f, "")
	}
	for _, f := range d.Removed {
		show(p.Style.Good("−"), f, "")
	}
	for _, f := range d.Revised {
		var changes []string
		for _, c := range f.Changes {
			changes = append(changes, fmt.Sprintf("%s %s → %s", c.Field, plain(c.From), plain(c.To)))
		}
		show(p.Style.Warn("~"), f.Finding, "  "+terminal.Clean(strings.Join(changes, ", ")))
	}
	if hidden > 0 {
		p.line(b, p.Style.Dim(fmt.Sprintf("… and %d more", hidden)))
	}
	if d.Truncated {
		p.line(b, p.Style.Dim("the lists were cut; all of them: "+terminal.Clean(d.Links.All)))
	}
}

// digest lists the images of an update.
func (p *Printer) digest(b *strings.Builder, d schemas.ManifestsChanged) {
	for i, m := range d.Manifests {
		if p.Findings > 0 && i == p.Findings {
			p.line(b, p.Style.Dim(fmt.Sprintf("… and %d more", len(d.Manifests)-i)))
			break
		}
		p.line(b, fmt.Sprintf("%s %s  +%d −%d ~%d", p.Style.Severity(m.Severity, fmt.Sprintf("%-10s", terminal.Clean(m.Severity))),
			terminal.Clean(or(m.Image, m.Digest)), m.Added, m.Removed, m.Revised))
	}
	if d.Truncated {
		p.line(b, p.Style.Dim("the list was cut; all of it: "+terminal.Clean(d.Links.All)))
	}
}

// Finding is one finding in one line.
func (p *Printer) Finding(f schemas.Finding) string {
	s := f.NormalizedSeverity
	out := p.Style.Severity(s, fmt.Sprintf("%-10s", terminal.Clean(s))) + " " + terminal.Clean(f.ID) + "  " +
		terminal.Clean(f.Package.Name+" "+f.Package.Version)
	if f.FixedInVersion != "" {
		out += "  fixed in " + p.Style.Good(terminal.Clean(f.FixedInVersion))
	} else {
		out += "  " + p.Style.Dim("no fix")
	}
	if f.KEV {
		out += "  " + p.Style.Bad("KEV")
	}
	if f.EPSS != nil {
		out += fmt.Sprintf("  EPSS %.0f%%", f.EPSS.Score*100)
	}
	return out
}

// severities is "2 Critical, 5 High", or that there is nothing.
func (p *Printer) severities(n schemas.BySeverity) string {
	var out []string
	for i, c := range []int{n.Critical, n.High, n.Medium, n.Low, n.Negligible, n.Unknown} {
		if c > 0 {
			name := schemas.SeverityNames[len(schemas.SeverityNames)-1-i]
			out = append(out, p.Style.Severity(name, fmt.Sprintf("%d %s", c, name)))
		}
	}
	if out == nil {
		return p.Style.Good("nothing known against it")
	}
	return strings.Join(out, ", ")
}

func nameOf(m schemas.Manifest) string {
	if len(m.Names) > 0 {
		return m.Names[0]
	}
	return terminal.Digest(m.Digest)
}

func firstLoad(u schemas.Update) string {
	if u.FirstLoad {
		return " (first load)"
	}
	return ""
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// plain is a JSON value in words.
func plain(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return or(v, "none")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(b)
}
