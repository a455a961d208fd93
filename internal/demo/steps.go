package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

// firstLoad waits until the updater has run once.
func (d *demo) firstLoad(ctx context.Context) error {
	return until(ctx, func() (bool, error) {
		var page v1.Page[v1.UpdaterSet]
		if err := d.api.call(ctx, http.MethodGet, "/updaters", nil, &page); err != nil {
			return false, err
		}
		for _, s := range page.Items {
			for _, u := range s.Updaters {
				if u.LastOK != nil && u.Ref != "" {
					d.detail("%s loaded %s; its schedule is %s", u.Name, terminal.Count(u.Fetched, "vulnerability row"), s.Schedule)
					return true, nil
				}
			}
		}
		return false, nil
	})
}

// publish hands the image over as anybody outside would.
func (d *demo) publish(ctx context.Context) error {
	msg, err := d.message()
	if err != nil {
		return err
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(d.server.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ack, err := js.Publish(ctx, "tocsin.manifests", body)
	if err != nil {
		return err
	}
	d.detail("%s, acknowledged by stream %s", terminal.Clip(string(body), 72), ack.Stream)
	return nil
}

// indexed waits for the event that says so.
func (d *demo) indexed(ctx context.Context) error {
	return d.show(ctx, schemas.TypeManifestIndexed)
}

// change puts the feed into its second state. Nothing but the updater's own
// schedule makes the rest happen.
func (d *demo) change(ctx context.Context) error {
	before, err := d.report(ctx)
	if err != nil {
		return err
	}
	d.before = before
	d.feed.mirror.Advance()
	return d.show(ctx, schemas.TypeVulnerabilitiesChanged)
}

// show waits for an event of the image and prints it.
func (d *demo) show(ctx context.Context, typ string) error {
	m, err := d.hook.await(ctx, func(e event.Event) bool { return e.Type() == typ && e.Subject() == d.image.Digest })
	if err != nil {
		return err
	}
	if m.Scheme == "" {
		return fmt.Errorf("the event came without a signature that verifies")
	}
	d.event = m.Events[0]
	d.printf("\n")
	p := listen.Printer{W: d.Out, Style: d.Style}
	if err := p.Message(m); err != nil {
		return err
	}
	d.printf("\n")
	return nil
}

// report is the image's findings now, by what identifies one.
func (d *demo) report(ctx context.Context) (map[string]schemas.Finding, error) {
	var r v1.Report
	if err := d.api.call(ctx, http.MethodGet, "/images/"+url.PathEscape(d.image.Digest)+"/report", nil, &r); err != nil {
		return nil, err
	}
	out := map[string]schemas.Finding{}
	for _, f := range r.Vulnerabilities {
		out[key(f)] = f
	}
	return out, nil
}

func key(f schemas.Finding) string {
	return f.ID + " in " + f.Package.Name + " " + f.Package.Version
}

// check holds the event to the difference of the reports.
func (d *demo) check(ctx context.Context) error {
	after, err := d.report(ctx)
	if err != nil {
		return err
	}
	data, err := decode[schemas.VulnerabilitiesChanged](d.event)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"added", keys(data.Added), without(after, d.before)},
		{"removed", keys(data.Removed), without(d.before, after)},
		{"revised", revisedKeys(data.Revised), differing(d.before, after)},
	} {
		if !slices.Equal(c.got, c.want) {
			return fmt.Errorf("the event says %s: %s; the reports say: %s", c.what, strings.Join(c.got, ", "), strings.Join(c.want, ", "))
		}
		d.detail("%s %d: as the difference of the reports before and after", c.what, len(c.got))
	}
	return nil
}

func keys(fs []schemas.Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, key(f))
	}
	slices.Sort(out)
	return out
}

func revisedKeys(fs []schemas.RevisedFinding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, key(f.Finding))
	}
	slices.Sort(out)
	return out
}

// without are the keys of a that b lacks, in order.
func without(a, b map[string]schemas.Finding) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[k]; !ok {
			out = append(out, k)
		}
	}
	return out
}

// differing are the keys of both whose severity or fixed-in version differs.
func differing(a, b map[string]schemas.Finding) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		f, ok := b[k]
		if ok && (a[k].Severity != f.Severity || a[k].NormalizedSeverity != f.NormalizedSeverity || a[k].FixedInVersion != f.FixedInVersion) {
			out = append(out, k)
		}
	}
	return out
}

// deliveries shows what the server kept of the event's delivery.
func (d *demo) deliveries(ctx context.Context) error {
	var page v1.Page[v1.Delivery]
	err := until(ctx, func() (bool, error) { // the answer to the webhook is on its way to the row
		if err := d.api.call(ctx, http.MethodGet, "/deliveries?event="+d.event.ID(), nil, &page); err != nil {
			return false, err
		}
		return len(page.Items) == 1 && page.Items[0].State == "delivered", nil
	})
	if err != nil {
		return err
	}
	var attempts v1.Page[v1.Attempt]
	if err := d.api.call(ctx, http.MethodGet, "/deliveries/"+page.Items[0].ID+"/attempts", nil, &attempts); err != nil {
		return err
	}
	t := terminal.NewTable("AT", "EVENT", "OUTCOME", "STATUS", "TOOK")
	for _, a := range attempts.Items {
		t.Row(a.At.Local().Format(time.TimeOnly), d.event.ID(), a.Outcome, a.Status, fmt.Sprintf("%.1f ms", a.DurationMS))
	}
	var b strings.Builder
	if err := t.Write(&b, d.Style); err != nil {
		return err
	}
	d.printf("\n  %s\n", strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", "\n  "))
	return nil
}
