package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/schemas"
)

type listenCmd struct {
	Addr      string   `help:"Address to receive on." default:"127.0.0.1:0" placeholder:"HOST:PORT"`
	Secret    []string `sep:"none" help:"Signing secret (whsec_…) or public key (whpk_…); unsigned and wrongly signed messages are then refused. May be repeated." env:"TOCSIN_WEBHOOK_SECRET" placeholder:"KEY"`
	Forward   string   `help:"Send every message on to this URL, and answer what it answers." placeholder:"URL"`
	Once      int      `help:"End after so many messages." placeholder:"N"`
	Findings  int      `help:"Lines of findings shown for one event; 0 for all." default:"20"`
	Subscribe bool     `help:"Subscribe by itself, and unsubscribe at the end."`
	URL       string   `help:"With --subscribe: the URL the server reaches this receiver at, if it is not the address." placeholder:"URL"`
	wishes
}

func (listenCmd) Help() string {
	return `A webhook receiver for people: it prints events as they come and checks their signatures. The flags that say which
events are wanted go with --subscribe. With --output json it prints one CloudEvent a line.

A server refuses sinks on loopback and private networks unless delivery.allow_networks has them.

Examples:
  tocsin listen --subscribe
  tocsin listen --subscribe --severity high --once 1
  tocsin listen --addr 0.0.0.0:8081 --secret whsec_… --forward http://127.0.0.1:3000/hook`
}

func (c *listenCmd) Run(e *env) error {
	keys := make([]standardwebhooks.Key, len(c.Secret))
	for i, s := range c.Secret {
		k, err := standardwebhooks.Parse(s)
		if err != nil {
			return usage("--secret: %w", err)
		}
		keys[i] = k
	}
	if c.Forward != "" {
		if u, err := url.Parse(c.Forward); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return usage("--forward %q is not an http or https URL", c.Forward)
		}
	}
	types, filters, err := c.compile()
	if err != nil {
		return err
	}
	if !c.Subscribe && (len(filters) > 0 || len(c.Types) > 0 || c.Superseded) {
		return usage("flags that say which events are wanted go with --subscribe")
	}
	ctx, stop := signal.NotifyContext(e.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return &hinted{error: fmt.Errorf("receiving on %s: %w", c.Addr, err), hint: "--addr 127.0.0.1:0 takes any free port."}
	}
	here := "http://" + ln.Addr().String() + "/"
	var own *ownTest
	if c.Subscribe {
		if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() && c.URL == "" {
			ln.Close()
			return usage("--addr %s is every address of this machine: say with --url which one the server is to call", c.Addr)
		}
		sub, drop, err := c.subscribeHere(e, here, types, c.current(types, filters))
		if err != nil {
			ln.Close()
			return err
		}
		defer drop()
		k, err := standardwebhooks.Parse(sub.Secret)
		if err != nil {
			ln.Close()
			return fmt.Errorf("the subscription's secret: %w", err)
		}
		keys = append(keys, k)
		own = newOwnTest(e, sub.ID)
	}
	e.notef("Listening on %s", here)
	p := &listen.Printer{W: e.out, Style: e.style, JSON: e.json, Findings: c.Findings}
	r := listen.New(listen.Options{
		Keys: keys, Forward: c.Forward, Once: c.Once, Own: own.is,
		Receive: func(_ context.Context, m listen.Received) error { return p.Message(m) },
	})
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		own.watch(ctx, e)
	}()
	err = r.Serve(ctx, ln)
	cancel()
	<-watched
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// subscribeHere makes a subscription that is deleted by the returned function.
func (c *listenCmd) subscribeHere(e *env, here string, types []string, filters []schemas.Filter) (schemas.Subscription, func(), error) {
	cl, err := e.client()
	if err != nil {
		return schemas.Subscription{}, nil, err
	}
	if c.URL != "" {
		here = c.URL
	}
	host, err := os.Hostname()
	if err != nil {
		host = "somewhere"
	}
	var sub schemas.Subscription
	err = cl.call(http.MethodPost, "/subscriptions", nil, schemas.Subscription{
		Name: fmt.Sprintf("tocsin listen on %s, %d", host, os.Getpid()), Sink: here, Protocol: schemas.ProtocolHTTP, Types: types, Filters: filters,
	}, &sub)
	if err != nil {
		return sub, nil, &hinted{error: fmt.Errorf("subscribing %s: %w", here, err), hint: "A server delivers to loopback only with delivery.allow_networks: [127.0.0.0/8]."}
	}
	e.notef("Subscribed as %s, until this ends", sub.ID)
	return sub, func() {
		// The command's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), 10*time.Second)
		defer cancel()
		if err := cl.send(ctx, http.MethodDelete, "/subscriptions/"+seg(sub.ID), nil, "", nil, nil); err != nil {
			e.notef("%s the subscription %s is still there: %v", e.notice.Warn("warning:"), sub.ID, err)
		}
	}, nil
}
