package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

// limit is how long the demo may take after the image is built.
const limit = 2 * time.Minute

// Options are how to run the demo.
type Options struct {
	// Binary is the program that `serve` is started of.
	Binary string
	// Dir keeps the demo's data; empty for a temporary one that is removed.
	Dir string
	// Keep stays up afterwards until the context ends.
	Keep  bool
	Out   io.Writer
	Style terminal.Style
}

// demo is one run.
type demo struct {
	Options
	dir    string
	start  time.Time
	server *server
	api    *api
	feed   *feed
	hook   *hook
	image  image.Image
	before map[string]schemas.Finding // the report before the feed changed
	event  event.Event                // the last one shown
}

// Run shows the demo. An error says which step failed, and the server's log
// has been printed by then.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, dir: o.Dir, start: time.Now()}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "tocsin-demo-"); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if os.Geteuid() == 0 { // the private Postgres runs as somebody else
			if err := os.Chmod(d.dir, 0o755); err != nil {
				return fmt.Errorf("demo: %w", err)
			}
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	}
	defer func() { err = errors.Join(err, d.stop(err)) }()

	d.printf("%s\n\n", d.Style.Bold("Tocsin: from a changed feed to a signed webhook"))
	if err := d.step(ctx, "Build an image with an old Go module in it", d.build); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo took longer than %s", limit))
	defer cancel()
	for _, s := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"Serve a vulnerability feed, and the image's layers, on loopback", d.serveFeed},
		{"Start tocsin serve: a Postgres and a JetStream of its own", d.startServer},
		{"Load the feed for the first time", d.firstLoad},
		{"Subscribe a webhook to everything", d.subscribe},
		{"Publish the image over NATS, on tocsin.manifests", d.publish},
		{"See it indexed", d.indexed},
		{"Change the feed, and wait for the updater's schedule", d.change},
		{"Check that the event names exactly what changed", d.check},
		{"Look at the delivery log", d.deliveries},
	} {
		if err := d.step(bounded, s.what, s.do); err != nil {
			return err
		}
	}
	d.printf("\n%s in %.1f s\n", d.Style.Good("All of it, end to end,"), time.Since(d.start).Seconds())
	if d.Keep {
		d.play()
		<-ctx.Done()
	}
	return nil
}

// step says what is done, does it, and says how long it took.
func (d *demo) step(ctx context.Context, what string, do func(context.Context) error) error {
	d.printf("%s %s\n", d.Style.Bold("▸"), what)
	began := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("demo: %s: %w", strings.ToLower(what[:1])+what[1:], err)
	}
	d.printf("  %s\n", d.Style.Dim(fmt.Sprintf("%.1f s", time.Since(began).Seconds())))
	return nil
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

// detail is a line under a step.
func (d *demo) detail(format string, args ...any) { d.printf("  "+format+"\n", args...) }

// play says what can be done with a demo that stays up.
func (d *demo) play() {
	dir := d.server.data
	d.printf(`
It stays up until you press Ctrl-C. The page is at

  http://%s/ui/
  log in with the token in %s/token

In another terminal:

  export TOCSIN_DATA_DIR=%s
  tocsin images                      what is indexed
  tocsin report %s        what is wrong with it
  tocsin events                      what happened
  tocsin affected CVE-2025-30204     which images have it
  tocsin updaters status             the feeds
  tocsin listen --subscribe          watch, then `+"`tocsin updaters run`"+`
  nats pub -s %s tocsin.manifests '{"image":"…"}'

API http://%s, metrics http://%s/metrics
`, d.server.API, dir, dir, image.Name, d.server.NATS, d.server.API, d.server.Introspection)
}

// stop ends everything, and shows the server's log if something failed.
func (d *demo) stop(failed error) error {
	if d.hook != nil {
		d.hook.stop()
	}
	var err error
	if d.server != nil {
		err = d.server.stop()
		if failed != nil || err != nil {
			d.printf("\n%s\n%s\n", d.Style.Bad("The end of the server's log:"), d.server.log.tail())
		}
	}
	if d.feed != nil {
		d.feed.stop()
	}
	return err
}
