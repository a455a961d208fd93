package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/terminal"
)

// doctor looks whether a deployment is as it should be, as this process sees it.
// It changes nothing but what readiness writes.
type doctor struct {
	app   *App
	pool  *pgxpool.Pool
	bus   *bus.Bus
	roles *services
	stats httpapi.Stats
	now   func() time.Time
}

// Bounds of what is well.
const (
	oldestPostgres = 150000
	clockApart     = 2 * time.Second
	leastDisk      = 1 << 30
	lateDelivery   = 10 * time.Minute
	oldFeed        = 48 * time.Hour
)

// visitTimeout bounds a whole look.
const visitTimeout = 20 * time.Second

// findings gathers checks.
type findings []v1.Check

func (f *findings) ok(name, says string, a ...any) {
	*f = append(*f, v1.Check{Name: name, Status: "ok", Says: fmt.Sprintf(says, a...)})
}

func (f *findings) warn(name, do, says string, a ...any) {
	*f = append(*f, v1.Check{Name: name, Status: "warning", Says: fmt.Sprintf(says, a...), Do: do})
}

func (f *findings) fail(name, do, says string, a ...any) {
	*f = append(*f, v1.Check{Name: name, Status: "failed", Says: fmt.Sprintf(says, a...), Do: do})
}

// Doctor implements httpapi.Doctor.
func (d *doctor) Doctor(ctx context.Context) (v1.Doctor, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	var f findings
	for _, look := range []func(context.Context, *findings){
		d.postgres, d.nats, d.disk, d.listeners, d.keys, d.tokens, d.feeds, d.work, d.subscriptions,
	} {
		look(ctx, &f)
	}
	return v1.Doctor{Checks: f}, nil
}

func (d *doctor) postgres(ctx context.Context, f *findings) {
	s, err := postgres.Examine(ctx, d.pool)
	if err != nil {
		f.fail("postgres", "See whether the server is there and this role may connect.", "%v", err)
		return
	}
	here := d.now()
	if s.Version < oldestPostgres {
		f.fail("postgres.version", "Upgrade it to 15 or newer.", "PostgreSQL %s is older than what is tried", s.VersionText)
	} else {
		f.ok("postgres.version", "PostgreSQL %s, %s of data", s.VersionText, humanize.IBytes(uint64(s.Bytes)))
	}
	var off []string
	for name, on := range map[string]bool{"fsync": s.Fsync, "full_page_writes": s.FullPageWrites, "synchronous_commit": s.SynchronousCommit} {
		if !on {
			off = append(off, name)
		}
	}
	if len(off) > 0 {
		f.fail("postgres.durability", "Switch them on: what was accepted is a row before it is anything else.", "switched off: %s. A power cut can lose jobs, events and deliveries", strings.Join(off, ", "))
	} else {
		f.ok("postgres.durability", "every commit reaches the disk")
	}
	if err := postgres.CheckWrite(ctx, d.pool); err != nil {
		f.fail("postgres.write", "Nothing is accepted meanwhile, and nothing is lost.", "%v", err)
	}
	if free := s.MaxConnections - s.Connections; free < 10 {
		f.warn("postgres.connections", "Raise max_connections, lower database.max_conns and delivery.conns, or put PgBouncer in between.", "%d of %d connections are taken", s.Connections, s.MaxConnections)
	} else {
		f.ok("postgres.connections", "%d of %d connections are taken", s.Connections, s.MaxConnections)
	}
	if apart := here.Sub(s.Time).Abs(); apart > clockApart {
		f.warn("clock", "Set both by NTP. What deletes goes by the database's clock; times in logs and signatures go by this process's, and receivers refuse signatures that are minutes old.",
			"this process's clock and the database's are %s apart", terminal.Span(apart))
	} else {
		f.ok("clock", "this process's clock agrees with the database's")
	}
}

func (d *doctor) nats(ctx context.Context, f *findings) {
	if err := d.bus.Check(ctx); err != nil {
		f.fail("nats", "See whether the servers are there and have a majority; nothing is lost meanwhile.", "%v", err)
		return
	}
	embedded := d.app.config.NATS.URL.Empty()
	switch replicas := d.app.config.NATS.Replicas; {
	case embedded:
		f.ok("nats", "the server inside takes messages")
	case replicas < 3:
		f.warn("nats.replicas", "On a cluster, set nats.replicas to 3.", "streams have %d replica: while its server is away, nothing is taken on NATS", max(replicas, 1))
	default:
		f.ok("nats", "every stream has a leader that hears a majority of its %d replicas", replicas)
	}
}

func (d *doctor) disk(_ context.Context, f *findings) {
	dir := d.app.config.DataDir
	info, err := os.Stat(dir)
	if err != nil {
		f.fail("data_dir", "Make it, for this user.", "%v", err)
		return
	}
	if info.Mode().Perm()&0o007 != 0 && !d.app.config.Database.URL.Empty() {
		f.warn("data_dir", "chmod o-rwx it: keys and tokens are in it.", "everybody on this machine may look into %s", dir)
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		f.warn("disk", "", "the free space of %s is not known: %v", dir, err)
		return
	}
	if free := int64(s.Bavail) * int64(s.Bsize); free < leastDisk {
		f.fail("disk", "Make room: layers are unpacked there, and the private PostgreSQL and NATS write there.", "%s are free in %s", humanize.IBytes(uint64(free)), dir)
	} else {
		f.ok("disk", "%s are free in %s", humanize.IBytes(uint64(free)), dir)
	}
}

func (d *doctor) listeners(_ context.Context, f *findings) {
	host, _, err := net.SplitHostPort(d.app.addr.Introspection)
	if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsLoopback() && !ip.IsPrivate() {
		f.warn("introspection", "Let only those reach it who look after the process: it has no login.", "metrics and profiles are answered on %s", d.app.addr.Introspection)
	}
	if host, _, err := net.SplitHostPort(d.app.addr.API); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() && d.app.config.PublicURL.Empty() {
			f.warn("public_url", "Set public_url to the address at which others reach this server, best over TLS.", "links in events point at %s", d.app.publicURL())
		}
	}
}

func (d *doctor) keys(_ context.Context, f *findings) {
	if said := d.roles.keys.said.Load(); said != nil && *said != "" {
		f.fail("secrets", `docs/operations.md, "A lost key", has the way back.`, "%s", *said)
		return
	}
	if len(d.app.config.Secrets.Keys) == 0 {
		f.warn("secrets", "Set secrets.keys, or keep a copy of the file secret.key elsewhere.", "the key of the subscriptions' secrets is in %s alone: who loses that directory has to rotate all of them", d.app.config.DataDir)
		return
	}
	f.ok("secrets", "every subscription's secrets can be read")
}

func (d *doctor) tokens(ctx context.Context, f *findings) {
	list, err := d.roles.tokens.List(ctx)
	if err != nil {
		f.fail("tokens", "", "%v", err)
		return
	}
	forever := 0
	for _, t := range list {
		if t.ExpiresAt == nil && (access.Principal{Scopes: t.Scopes}).May(access.Admin) {
			forever++
		}
	}
	if forever > 1 {
		f.warn("tokens", "tocsin tokens list shows them; make one with --expires and revoke the others.", "%s of administrators never end", terminal.Count(forever, "token"))
	} else {
		f.ok("tokens", "%s, %d of administrators without an end", terminal.Count(len(list), "token"), forever)
	}
}

func (d *doctor) feeds(ctx context.Context, f *findings) {
	sets, err := d.roles.updater.Status(ctx)
	if err != nil {
		f.fail("feeds", "", "%v", err)
		return
	}
	fresh := 0
	for _, s := range sets {
		if !s.Enabled {
			continue
		}
		failing, held, old := 0, 0, time.Duration(0)
		reason := s.Error
		for _, u := range s.Updaters {
			if u.Failures > 0 {
				failing++
				if reason == "" {
					reason = u.Updater + ": " + u.Error
				}
			}
			if u.HeldSince != nil {
				held++
			}
			old = max(old, time.Duration(u.Age*float64(time.Second)))
		}
		name := "feeds." + s.Set
		switch {
		case failing > 0 || s.Error != "":
			f.fail(name, "tocsin updaters status --failed says more; a mirror is set by updaters.config."+s.Set+".", "%s", terminal.Clip(reason, 300))
		case held > 0:
			f.warn(name, "Look at the publisher; tocsin updaters accept lets it through.", "%s held back, which would take away much of the feed", terminal.Count(held, "update"))
		case old > oldFeed:
			f.warn(name, "tocsin updaters run "+s.Set, "not looked at for %s", terminal.Span(old))
		case len(s.Updaters) == 0:
			f.warn(name, "tocsin updaters run "+s.Set+" --wait", "nothing of it is loaded yet: nothing can be known from it")
		default:
			fresh++
		}
	}
	if fresh > 0 {
		f.ok("feeds", "%s up to date", terminal.Count(fresh, "feed"))
	}
}

func (d *doctor) work(ctx context.Context, f *findings) {
	st, err := d.stats.Stats(ctx, "")
	if err != nil {
		f.fail("work", "", "%v", err)
		return
	}
	if n := st.Images["failed"]; n > 0 {
		f.warn("images", "tocsin images --state failed says why.", "%s could not be indexed", terminal.Count(n, "image"))
	}
	for kind, age := range d.oldest(ctx, f) {
		if age > lateDelivery {
			f.fail("jobs."+kind, "See whether a process with its role runs: tocsin jobs --state queued says what it waits for.", "a job has been queued for %s", terminal.Span(age))
		}
	}
	if oldest := time.Duration(st.Deliveries.OldestSeconds * float64(time.Second)); oldest > lateDelivery {
		f.fail("deliveries", "tocsin stats says whose it is.", "%d deliveries are owed, the oldest for %s", st.Deliveries.Backlog, terminal.Span(oldest))
	} else {
		f.ok("deliveries", "%d deliveries are owed", st.Deliveries.Backlog)
	}
}

func (d *doctor) oldest(ctx context.Context, f *findings) map[string]time.Duration {
	ages, err := d.roles.jobs.OldestQueued(ctx)
	if err != nil {
		f.fail("jobs", "", "%v", err)
	}
	return ages
}

func (d *doctor) subscriptions(ctx context.Context, f *findings) {
	st, err := d.stats.Stats(ctx, "")
	if err != nil {
		return // told already
	}
	well := 0
	for _, s := range st.Subscriptions {
		who := s.Name
		if who == "" {
			who = s.ID
		}
		switch {
		case s.State == "disabled":
			f.warn("subscription "+who, "tocsin subscriptions resume "+s.ID+", once the target is right.", "disabled: nothing is sent")
		case s.Breaker == "open":
			f.warn("subscription "+who, "tocsin deliveries --subscription "+s.ID+" says what it answers.", "its breaker is open, %d deliveries are owed", s.Backlog)
		case s.Dead > 0:
			f.warn("subscription "+who, "tocsin deliveries --subscription "+s.ID+" --state dead lists them.", "%d deliveries were given up", s.Dead)
		default:
			well++
		}
	}
	if well > 0 {
		f.ok("subscriptions", "%s well", terminal.Count(well, "subscription"))
	}
}
