package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A problem is what is wrong with one key.
type problems []error

func (p *problems) add(path, format string, a ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, a...)))
}

// Validate says everything that is wrong with c, each with the key's path and
// what to do. It looks at the values alone: nothing is opened but the files
// that are named.
func (c *Config) Validate() error {
	var p problems
	p.address("listen", c.Listen)
	p.address("introspection", c.Introspection)
	p.url("public_url", c.PublicURL, "http", "https")
	if c.DataDir == "" {
		p.add("data_dir", "is empty")
	}
	for _, r := range c.Roles {
		p.oneOf("roles", r, Roles...)
	}
	if c.ShutdownDelay < 0 {
		p.add("shutdown_delay", "is negative")
	}
	if c.Listen == c.Introspection && !strings.HasSuffix(c.Listen, ":0") {
		p.add("introspection", "is the address of the API too: choose another port")
	}
	if s := c.Database.URL.Reveal(); strings.Contains(s, "://") {
		p.url("database.url", c.Database.URL, "postgres", "postgresql")
	}
	if s := c.Database.DirectURL.Reveal(); strings.Contains(s, "://") {
		p.url("database.direct_url", c.Database.DirectURL, "postgres", "postgresql")
	}
	if c.Database.TransactionPooling && c.Database.DirectURL.Reveal() == "" {
		p.add("database.direct_url", "is needed with database.transaction_pooling: migrations lock by session, which such a pooler loses")
	}
	p.least("database.max_conns", c.Database.MaxConns, 4)
	p.least("http.max_connections", c.HTTP.MaxConnections, 16)
	p.least("http.max_connections_per_address", c.HTTP.MaxConnectionsPerAddress, 0)
	c.validateNATS(&p)
	p.least("jobs.max_attempts", c.Jobs.MaxAttempts, 1)
	p.positive("jobs.min_backoff", c.Jobs.MinBackoff)
	if c.Jobs.MaxBackoff < c.Jobs.MinBackoff {
		p.add("jobs.max_backoff", "is less than jobs.min_backoff")
	}
	p.positive("jobs.keep_done", c.Jobs.KeepDone)
	p.positive("jobs.keep_failed", c.Jobs.KeepFailed)
	c.validateRoles(&p)
	c.validateDelivery(&p)
	c.validateSecrets(&p)
	p.oneOf("log.level", strings.ToLower(c.Log.Level), "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	return errors.Join(p...)
}

var inboxPrefix = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (c *Config) validateNATS(p *problems) {
	n := c.NATS
	for _, one := range strings.Split(n.URL.Reveal(), ",") {
		p.url("nats.url", NewURL(strings.TrimSpace(one)), "nats", "tls", "ws", "wss")
	}
	if n.URL.Empty() {
		p.address("nats.listen", n.Listen)
	}
	if !inboxPrefix.MatchString(n.InboxPrefix) {
		p.add("nats.inbox_prefix", "%q is no beginning of a NATS subject: words of letters, digits, - and _ with dots between", n.InboxPrefix)
	}
	if (n.User == "") != n.Password.Empty() {
		p.add("nats.password", "user and password go together")
	}
	if (n.CertFile == "") != (n.KeyFile == "") {
		p.add("nats.key_file", "cert_file and key_file go together")
	}
	for path, file := range map[string]string{
		"nats.credentials_file": n.CredentialsFile, "nats.ca_file": n.CAFile, "nats.cert_file": n.CertFile, "nats.key_file": n.KeyFile, "indexer.ca_file": c.Indexer.CAFile, "delivery.ca_file": c.Delivery.CAFile, "updaters.ca_file": c.Updaters.CAFile,
	} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			p.add(path, "%v", err)
		}
	}
	if !slices.Contains([]int{1, 2, 3, 4, 5}, n.Replicas) {
		p.add("nats.replicas", "is %d: JetStream knows 1 to 5", n.Replicas)
	} else if n.URL.Empty() && n.Replicas != 1 {
		p.add("nats.replicas", "is %d: the embedded server is a single one (set nats.url for a cluster)", n.Replicas)
	}
	p.size("nats.max_store", n.MaxStore, 64<<20)
	p.size("nats.intake_max_bytes", n.IntakeMaxBytes, 1<<20)
	p.size("nats.events_max_bytes", n.EventsMaxBytes, 1<<20)
	p.positive("nats.events_max_age", n.EventsMaxAge)
}

func (c *Config) validateRoles(p *problems) {
	i := c.Indexer
	p.least("indexer.concurrency", i.Concurrency, 1)
	p.least("indexer.layer_concurrency", i.LayerConcurrency, 1)
	p.least("indexer.max_layers", i.MaxLayers, 1)
	p.least("indexer.max_entries", i.MaxEntries, 1)
	p.size("indexer.max_layer_size", i.MaxLayerSize, 1)
	p.size("indexer.max_unpacked_size", i.MaxUnpackedSize, 1)
	p.size("indexer.max_uploads", i.MaxUploads, 1)
	if i.SharedUploads != 0 {
		p.size("indexer.shared_uploads", i.SharedUploads, 64<<20)
		if c.NATS.URL.Empty() {
			p.add("indexer.shared_uploads", "needs nats.url: the embedded server is no other replica's")
		}
	}
	p.positive("indexer.layer_timeout", i.LayerTimeout)
	p.positive("indexer.stall_timeout", i.StallTimeout)
	p.positive("indexer.index_timeout", i.IndexTimeout)
	p.positive("indexer.resolve_timeout", i.ResolveTimeout)
	if i.RetireAfter < 0 {
		p.add("indexer.retire_after", "is negative; 0 retires nothing")
	}
	p.positive("indexer.scan_timeout", i.ScanTimeout)
	p.proxy("indexer.proxy", i.Proxy)
	p.proxy("delivery.proxy", c.Delivery.Proxy)
	p.proxy("updaters.proxy", c.Updaters.Proxy)
	if i.ScanMemory != 0 {
		p.size("indexer.scan_memory", i.ScanMemory, 128<<20)
	}
	p.size("indexer.scan_disk", i.ScanDisk, 1<<20)
	for _, r := range i.InsecureRegistries {
		if r == "" || strings.Contains(r, "/") {
			p.add("indexer.insecure_registries", "%q is not host:port", r)
		}
	}

	u := c.Updaters
	if _, err := regexp.Compile(u.Filter); err != nil {
		p.add("updaters.filter", "is no regular expression: %v", err)
	}
	p.least("updaters.concurrency", u.Concurrency, 1)
	p.least("updaters.set_concurrency", u.SetConcurrency, 1)
	p.least("updaters.fetches", u.Fetches, 1)
	p.size("updaters.limits.response", u.Limits.Response, 1)
	p.size("updaters.limits.unpacked", u.Limits.Unpacked, 1)
	p.size("updaters.limits.entry", u.Limits.Entry, 1)
	p.least("updaters.limits.requests", u.Limits.Requests, 1)
	p.least("updaters.limits.probes", u.Limits.Probes, 1)
	p.size("updaters.limits.import", u.Limits.Import, 1)
	p.positive("updaters.limits.stall", u.Limits.Stall)
	p.positive("updaters.limits.updater", u.Limits.Updater)
	p.positive("updaters.limits.set", u.Limits.Set)

	p.share("matcher.epss_threshold", c.Matcher.EPSSThreshold)
	if c.Matcher.CacheAge < 0 {
		p.add("matcher.cache_age", "is negative")
	}
	p.least("matcher.retention", c.Matcher.Retention, 2)
	if c.Notifier.Source != "" {
		if _, err := url.Parse(c.Notifier.Source); err != nil {
			p.add("notifier.source", "is not a URI reference")
		}
	}
	p.size("notifier.event_size", c.Notifier.EventSize, 4<<10)
	if c.Notifier.EventSize > 900<<10 {
		p.add("notifier.event_size", "leaves no room in a NATS message of 1MiB: choose at most 900KiB")
	}
	p.positive("notifier.retention", c.Notifier.Retention)
	p.least("notifier.max_subscriptions", c.Notifier.MaxSubscriptions, 1)
}

func (c *Config) validateDelivery(p *problems) {
	d := c.Delivery
	for _, s := range d.Schedule {
		p.positive("delivery.schedule", s)
	}
	p.share("delivery.jitter", d.Jitter)
	p.positive("delivery.timeout", d.Timeout)
	p.least("delivery.concurrency", d.Concurrency, 1)
	if d.Rate < 0 {
		p.add("delivery.rate", "is negative")
	}
	p.positive("delivery.retention", d.Retention)
	if d.Drain < 0 {
		p.add("delivery.drain", "is negative")
	}
	p.size("delivery.cache_size", d.CacheSize, 1<<20)
	p.least("delivery.conns", d.Conns, 1)
	b := d.Breaker
	p.least("delivery.breaker.consecutive_failures", b.ConsecutiveFailures, 1)
	p.share("delivery.breaker.failure_ratio", b.FailureRatio)
	p.positive("delivery.breaker.window", b.Window)
	p.least("delivery.breaker.min_attempts", b.MinAttempts, 1)
	p.positive("delivery.breaker.open_for", b.OpenFor)
	if b.MaxOpenFor < b.OpenFor {
		p.add("delivery.breaker.max_open_for", "is less than delivery.breaker.open_for")
	}
	if c.Notifier.Retention < d.Retention {
		p.add("delivery.retention", "is longer than notifier.retention: a delivery needs its event")
	}
}

func (c *Config) validateSecrets(p *problems) {
	p.positive("auth.audit_retention", c.Auth.AuditRetention)
	if k := c.Auth.PSK.Key; !k.Empty() {
		if b, err := base64.StdEncoding.DecodeString(k.Reveal()); err != nil {
			p.add("auth.psk.key", "is not base64")
		} else if len(b) < 16 {
			p.add("auth.psk.key", "has %d bytes: too short to be secret (make one with: openssl rand -base64 32)", len(b))
		}
	}
	for i, k := range c.Secrets.Keys {
		if b, err := base64.StdEncoding.DecodeString(k.Reveal()); err != nil || len(b) != 32 {
			p.add("secrets.keys["+strconv.Itoa(i)+"]", "is not 32 bytes in base64 (make one with: openssl rand -base64 32)")
		}
	}
}

func (p *problems) address(path, s string) {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		p.add(path, "%q is not host:port", s)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		p.add(path, "%q is not a port", port)
	}
}

// url accepts none, or one of the schemes with a host.
func (p *problems) url(path string, u URL, schemes ...string) {
	if u.Empty() {
		return
	}
	v, err := url.Parse(u.Reveal())
	switch {
	case err != nil:
		p.add(path, "is not a URL") // the error may hold the password
	case !slices.Contains(schemes, v.Scheme):
		p.add(path, "%s has to begin with %s://", u, strings.Join(schemes, ":// or "))
	}
}

func (p *problems) oneOf(path, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		p.add(path, "%q is none of %s", s, strings.Join(allowed, ", "))
	}
}

func (p *problems) positive(path string, d Duration) {
	if d <= 0 {
		p.add(path, "is %s: has to be more than 0", d.Std())
	}
}

func (p *problems) size(path string, z, least Size) {
	if z < least {
		p.add(path, "is %d bytes: has to be at least %d", z, least)
	}
}

func (p *problems) share(path string, f float64) {
	if !(f >= 0 && f <= 1) {
		p.add(path, "is %g: has to be from 0 to 1", f)
	}
}

func (p *problems) least(path string, n any, least int64) {
	var v int64
	switch n := n.(type) {
	case int:
		v = int64(n)
	case int32:
		v = int64(n)
	case int64:
		v = n
	}
	if v < least {
		p.add(path, "is %d: has to be at least %d", v, least)
	}
}

// proxy notes a URL that can't be a proxy's; an empty one is none.
func (p *problems) proxy(path string, value URL) {
	if u, err := url.Parse(value.Reveal()); !value.Empty() && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		p.add(path, "is not the URL of a proxy, as in http://proxy.example:3128")
	}
}
