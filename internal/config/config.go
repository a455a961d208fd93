// Package config reads Tocsin's configuration: one YAML file, then the
// environment, over defaults that run everything on loopback.
//
// It guarantees that an unknown key, a value of the wrong kind and a value out
// of its range are errors that name the key and, in a file, the line; and that
// printing a configuration shows no secret ([Config.Print], and String and
// LogValue of [Secret] and [URL]).
//
// It holds values only. It does not open, resolve or create anything, and it
// does not know the packages that take the values.
package config

import (
	"os"
	"time"
)

// Config is everything that can be configured. Every key is also an
// environment variable: TOCSIN_ and the key's path in capitals with underscores,
// such as TOCSIN_DELIVERY_ALLOW_NETWORKS. A list is separated by commas there;
// a mapping is YAML. With _FILE behind the name of a secret or URL, the variable
// names a file that holds it.
type Config struct {
	Listen        string   `yaml:"listen" doc:"Address of the API, host:port; port 0 takes a free one."`
	Introspection string   `yaml:"introspection" doc:"Address of metrics, health and profiles."`
	PublicURL     URL      `yaml:"public_url" doc:"This server as others reach it, for links in events. Without it, the address of the API."`
	DataDir       string   `yaml:"data_dir" doc:"Directory for everything that is kept outside of the database. As root /var/lib/tocsin, else tocsin in the user's data directory."`
	Roles         []string `yaml:"roles" doc:"Roles to run: indexer, updater, matcher, notifier, delivery. Empty runs all."`
	ShutdownDelay Duration `yaml:"shutdown_delay" doc:"How long requests are still served after a stop was asked for, while /readyz says that it stops, so that a load balancer can send them elsewhere."`

	HTTP     HTTP     `yaml:"http"`
	Database Database `yaml:"database"`
	NATS     NATS     `yaml:"nats"`
	Jobs     Jobs     `yaml:"jobs"`
	Indexer  Indexer  `yaml:"indexer"`
	Updaters Updaters `yaml:"updaters"`
	Matcher  Matcher  `yaml:"matcher"`
	Notifier Notifier `yaml:"notifier"`
	Delivery Delivery `yaml:"delivery"`
	Auth     Auth     `yaml:"auth"`
	Ingest   Ingest   `yaml:"ingest"`
	Secrets  Secrets  `yaml:"secrets"`
	Log      Log      `yaml:"log"`
}

// Roles that a process can have.
var Roles = []string{"indexer", "updater", "matcher", "notifier", "delivery"}

// HTTP says what the API's connections may cost, and which proxies are before it.
type HTTP struct {
	MaxConnections           int       `yaml:"max_connections" doc:"Most connections of the API at a time; fewer if the process may not open twice as many files. Idle ones make room for others."`
	MaxConnectionsPerAddress int       `yaml:"max_connections_per_address" doc:"Most of them from one address that is no trusted proxy; 0 for no such bound."`
	TrustedProxies           []Network `yaml:"trusted_proxies" doc:"Networks of reverse proxies before the API. They are believed, by X-Forwarded-For, about who asked them, which decides whom wrong tokens slow down and what the audit log says."`
}

// Database says where PostgreSQL is.
type Database struct {
	URL                URL   `yaml:"url" doc:"PostgreSQL server. Without one, a private cluster runs in the data directory."`
	DirectURL          URL   `yaml:"direct_url" doc:"The same database without a pooler in between, for migrations. Needed with transaction_pooling."`
	TransactionPooling bool  `yaml:"transaction_pooling" doc:"The URL is a pooler's that gives a connection to each transaction alone, such as PgBouncer's in transaction mode."`
	MaxConns           int32 `yaml:"max_conns" doc:"Most connections of this process's main pool; delivery and each manifest being indexed have some beside it."`
}

// NATS says where NATS is, or how the embedded server runs.
type NATS struct {
	URL             URL      `yaml:"url" doc:"NATS servers, separated by commas. Without one, a server with JetStream runs inside, its store in the data directory."`
	Listen          string   `yaml:"listen" doc:"Address of the embedded server for others to publish to."`
	User            string   `yaml:"user" doc:"User of the embedded server for others, who may publish manifests and update requests and subscribe to events. Without one it is tocsin, with a password that is made once, in the file nats.password in the data directory."`
	Password        Secret   `yaml:"password" doc:"Password of that user."`
	MaxStore        Size     `yaml:"max_store" doc:"Most bytes of the embedded server's streams."`
	InboxPrefix     string   `yaml:"inbox_prefix" doc:"What the subjects begin with on which an external server answers Tocsin. Tocsin's user has to be allowed to subscribe to it, and nobody else should be."`
	CredentialsFile string   `yaml:"credentials_file" doc:"NATS credentials file for an external server."`
	CAFile          string   `yaml:"ca_file" doc:"Certificate authorities to trust for an external server."`
	CertFile        string   `yaml:"cert_file" doc:"Client certificate for an external server."`
	KeyFile         string   `yaml:"key_file" doc:"Key of the client certificate."`
	Replicas        int      `yaml:"replicas" doc:"Replicas of every stream; 3 on a JetStream cluster."`
	IntakeMaxBytes  Size     `yaml:"intake_max_bytes" doc:"Most bytes of messages waiting to be recorded. Beyond it publishers get an error."`
	EventsMaxBytes  Size     `yaml:"events_max_bytes" doc:"Most bytes of events kept in NATS; the oldest go first."`
	EventsMaxAge    Duration `yaml:"events_max_age" doc:"How long events are kept in NATS."`
}

// Jobs says how manifest and update jobs are run.
type Jobs struct {
	MaxAttempts int      `yaml:"max_attempts" doc:"Attempts at a job before it is given up."`
	MinBackoff  Duration `yaml:"min_backoff" doc:"Wait after the first failed attempt; it doubles with each."`
	MaxBackoff  Duration `yaml:"max_backoff" doc:"Longest wait between attempts."`
	KeepDone    Duration `yaml:"keep_done" doc:"How long jobs that are done stay listed."`
	KeepFailed  Duration `yaml:"keep_failed" doc:"How long failed jobs stay listed."`
}

// Indexer says how images are indexed.
type Indexer struct {
	Concurrency        int       `yaml:"concurrency" doc:"Manifests this process indexes at a time."`
	LayerConcurrency   int       `yaml:"layer_concurrency" doc:"Layers of one manifest that are scanned at a time, at most."`
	RequestConcurrency int       `yaml:"request_concurrency" doc:"Index requests over Clair's API that are worked on at a time; those that only wait for their job don't count. 0 is four a processor, a negative number sets no limit."`
	AllowNetworks      []Network `yaml:"allow_networks" doc:"Networks outside the public internet that registries and layers may be on, such as 10.0.0.0/8."`
	InsecureRegistries []string  `yaml:"insecure_registries" doc:"Registries (host:port) that speak plain HTTP."`
	CAFile             string    `yaml:"ca_file" doc:"Certificate authorities to trust for registries and layers, beside those of the system (SSL_CERT_FILE names those)."`
	Proxy              URL       `yaml:"proxy" doc:"HTTP proxy for registries and layers, as http://proxy.example:3128. Hosts in allow_networks are reached directly."`
	Scanners           Scanners  `yaml:"scanners"`
	MaxLayers          int       `yaml:"max_layers" doc:"Most layers of a manifest."`
	MaxLayerSize       Size      `yaml:"max_layer_size" doc:"Most bytes of a layer as it is transferred."`
	MaxUnpackedSize    Size      `yaml:"max_unpacked_size" doc:"Most bytes of a layer when it is unpacked."`
	MaxEntries         int       `yaml:"max_entries" doc:"Most files in a layer."`
	SharedUploads      Size      `yaml:"shared_uploads" doc:"Room in NATS, in bytes, for uploaded layers that every replica can read, so that replicas need no directory in common; 0 for none. nats.url has to name the servers."`
	MaxUploads         Size      `yaml:"max_uploads" doc:"Most bytes of all uploaded layers together."`
	LayerTimeout       Duration  `yaml:"layer_timeout" doc:"Longest transfer of a layer."`
	StallTimeout       Duration  `yaml:"stall_timeout" doc:"Longest silence within a transfer."`
	IndexTimeout       Duration  `yaml:"index_timeout" doc:"Longest attempt at a manifest."`
	ScanTimeout        Duration  `yaml:"scan_timeout" doc:"Longest scan of a layer by one scanner; one second more for every 8 MiB of the layer."`
	ScanMemory         Size      `yaml:"scan_memory" doc:"Most memory of a process that scans layers. 0 is 2GiB, or half of what there is if that is less."`
	ScanDisk           Size      `yaml:"scan_disk" doc:"Most bytes of temporary files of a process that scans layers."`
	ResolveTimeout     Duration  `yaml:"resolve_timeout" doc:"Longest wait for a registry to say what a reference stands for."`
	RetireAfter        Duration  `yaml:"retire_after" doc:"How long an image is watched that no name stands for any more; then it is retired, with an event. 0 is for ever. One that was published without a name is not retired."`
}

// Scanners is the configuration of claircore's scanners by kind and name, with
// claircore's own keys.
type Scanners struct {
	Package Foreign `yaml:"package" doc:"Configuration of claircore's package scanners by name."`
	Dist    Foreign `yaml:"dist" doc:"Configuration of claircore's distribution scanners by name."`
	Repo    Foreign `yaml:"repo" doc:"Configuration of claircore's repository scanners by name, such as rhel-repository-scanner: {repo2cpe_mapping_file: …}."`
	File    Foreign `yaml:"file" doc:"Configuration of claircore's file scanners by name."`
}

// Updaters says which feeds are followed.
type Updaters struct {
	Sets           []string          `yaml:"sets" doc:"Updater sets to run. Empty runs all of claircore's."`
	Filter         string            `yaml:"filter" doc:"Regular expression of the updaters to run, by name, such as ^debian/. Empty runs all of the sets."`
	Config         Foreign           `yaml:"config" doc:"claircore's own keys by set or by updater, such as osv: {url: …}."`
	Proxy          URL               `yaml:"proxy" doc:"HTTP proxy for feeds, as http://proxy.example:3128. Without it HTTPS_PROXY, HTTP_PROXY and NO_PROXY count."`
	CAFile         string            `yaml:"ca_file" doc:"Certificate authorities to trust for feeds, beside those of the system."`
	Schedules      map[string]string `yaml:"schedules" doc:"Cron specification by set, and of default."`
	Concurrency    int               `yaml:"concurrency" doc:"Feeds parsed and stored at a time in this process; each is held in memory."`
	SetConcurrency int               `yaml:"set_concurrency" doc:"Sets that run at a time in this process."`
	Fetches        int               `yaml:"fetches" doc:"Updaters of one set that fetch at a time."`
	StaleAfter     Duration          `yaml:"stale_after" doc:"How long an updater may fail before an event says that its data are stale."`
	AcceptEmpty    bool              `yaml:"accept_empty" doc:"Believe a feed that has become empty, instead of calling it failed."`
	MaxDrop        float64           `yaml:"max_drop" doc:"How much of a feed's rows an update may take away, of 1, before it is held back until tocsin updaters accept lets it through; 1 holds nothing back."`
	Limits         UpdateLimits      `yaml:"limits"`
}

// UpdateLimits bound what a feed may make this process do.
type UpdateLimits struct {
	Response Size     `yaml:"response" doc:"Most bytes of one response."`
	Unpacked Size     `yaml:"unpacked" doc:"Most bytes a compressed file may unpack to; four times as much for rhel-vex."`
	Entry    Size     `yaml:"entry" doc:"Most bytes one file in an archive may unpack to."`
	Requests int64    `yaml:"requests" doc:"Most requests of one run of a set."`
	Probes   int64    `yaml:"probes" doc:"Most of them that only look whether something exists."`
	Import   Size     `yaml:"import" doc:"Most bytes of an airgap archive as it is uploaded."`
	Stall    Duration `yaml:"stall" doc:"Longest silence of a server."`
	Updater  Duration `yaml:"updater" doc:"Longest run of one updater."`
	Set      Duration `yaml:"set" doc:"Longest run of a set."`
}

// Matcher says how findings are judged.
type Matcher struct {
	Names         []string `yaml:"names" doc:"Matchers of claircore to use, by name. Empty uses all."`
	Config        Foreign  `yaml:"config" doc:"claircore's own keys by matcher."`
	EPSSThreshold float64  `yaml:"epss_threshold" doc:"EPSS score, 0 to 1, whose crossing revises a finding."`
	Retention     int      `yaml:"retention" doc:"Update operations kept of every updater, at least."`
	CacheAge      Duration `yaml:"cache_age" doc:"How long clients may keep a vulnerability report of Clair's API (Cache-Control)."`
}

// Notifier says what becomes of events.
type Notifier struct {
	Source           string   `yaml:"source" doc:"CloudEvents source of every event. Without it urn:tocsin:<instance>."`
	EventSize        Size     `yaml:"event_size" doc:"Most bytes of an event's data; longer lists are cut, with a link to the rest."`
	Retention        Duration `yaml:"retention" doc:"How long events are kept."`
	MaxSubscriptions int      `yaml:"max_subscriptions" doc:"How many subscriptions one owner may have."`
	DisableSummary   bool     `yaml:"disable_summary" doc:"Clair's notifications hold every finding of an image, instead of the worst that was added and the worst that was removed."`
}

// Delivery says how events reach their subscribers. What a subscription sets
// itself goes before.
type Delivery struct {
	AllowNetworks []Network  `yaml:"allow_networks" doc:"Networks outside the public internet that targets may be on, such as 127.0.0.0/8."`
	Proxy         URL        `yaml:"proxy" doc:"HTTP proxy for deliveries of every protocol, as http://proxy.example:3128; it has to let CONNECT through to the ports of brokers. Hosts in allow_networks are reached directly."`
	CAFile        string     `yaml:"ca_file" doc:"Certificate authorities to trust for targets whose subscription names none, beside those of the system."`
	Schedule      []Duration `yaml:"schedule" doc:"Waits between attempts; after the last, a delivery is a dead letter."`
	Jitter        float64    `yaml:"jitter" doc:"Share of each wait by which it may be shorter or longer, 0 to 1."`
	Timeout       Duration   `yaml:"timeout" doc:"Longest attempt."`
	Concurrency   int        `yaml:"concurrency" doc:"Attempts at a time for one subscription."`
	Rate          float64    `yaml:"rate" doc:"Most messages a second for one subscription; 0 for no limit."`
	Breaker       Breaker    `yaml:"breaker"`
	Retention     Duration   `yaml:"retention" doc:"How long settled deliveries and their attempts are kept."`
	Drain         Duration   `yaml:"drain" doc:"How long attempts under way may go on when the process stops."`
	CacheSize     Size       `yaml:"cache_size" doc:"Memory for rendered events."`
	Conns         int32      `yaml:"conns" doc:"Database connections of the delivery workers."`
}

// Breaker says when a target is left alone.
type Breaker struct {
	ConsecutiveFailures int      `yaml:"consecutive_failures" doc:"Failures in a row that open a breaker."`
	FailureRatio        float64  `yaml:"failure_ratio" doc:"Share of failures within the window that opens it, 0 to 1."`
	Window              Duration `yaml:"window" doc:"The time the ratio looks back."`
	MinAttempts         int      `yaml:"min_attempts" doc:"Attempts within the window before the ratio counts."`
	OpenFor             Duration `yaml:"open_for" doc:"How long it stays open the first time; every failed probe doubles it."`
	MaxOpenFor          Duration `yaml:"max_open_for" doc:"Longest it stays open before a probe."`
	DisableAfter        Duration `yaml:"disable_after" doc:"Time of nothing but failure after which the subscription is disabled; negative for never."`
}

// Auth says who may use the API beside the holders of Tocsin's tokens.
type Auth struct {
	Bootstrap bool `yaml:"bootstrap" doc:"Make an administrator's token, in the file token in the data directory, for a database that has never had one."`
	PSK       PSK  `yaml:"psk"`

	AuditRetention Duration `yaml:"audit_retention" doc:"How long the audit log keeps who did what."`
}

// PSK is the pre-shared key of Clair's clients.
type PSK struct {
	Key     Secret   `yaml:"key" doc:"Key, base64, with which clients of Clair's API sign their tokens (Clair's auth.psk.key)."`
	Issuers []string `yaml:"iss" doc:"Issuers accepted beside Clair's own."`
}

// Ingest says how messages of registries are believed, beside those that bring a
// token.
type Ingest struct {
	GitHubSecret Secret `yaml:"github_secret" doc:"Secret of the webhook in GitHub whose signature is believed at /ingest/github."`
}

// Secrets says how credentials are encrypted at rest.
type Secrets struct {
	Keys []Secret `yaml:"keys" doc:"Keys of 32 bytes, base64, that encrypt credentials in the database: the first encrypts, all decrypt. Without any, one is made in the data directory."`
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error."`
	Format string `yaml:"format" doc:"text, json, or auto: text on a terminal, else json."`
}

// Default is what this package decides where nothing is configured. What the roles
// do by default they say themselves: internal/app adds it.
func Default() Config {
	return Config{
		Listen:        "127.0.0.1:6060",
		Introspection: "127.0.0.1:8089",
		DataDir:       defaultDataDir(),
		Database:      Database{MaxConns: 16},
		NATS:          NATS{InboxPrefix: "_TOCSIN_INBOX", Listen: "127.0.0.1:4222"},
		Indexer:       Indexer{RetireAfter: days(30)},
		Updaters:      Updaters{Limits: UpdateLimits{Import: 16 << 30}},
		Matcher:       Matcher{CacheAge: Duration(time.Hour)},
		Notifier:      Notifier{MaxSubscriptions: 1000},
		HTTP:          HTTP{MaxConnections: 4096, MaxConnectionsPerAddress: 256},
		Auth:          Auth{Bootstrap: true, AuditRetention: days(400)},
		Log:           Log{Level: "info", Format: "auto"},
	}
}

func days(n int) Duration { return Duration(time.Duration(n) * 24 * time.Hour) }

func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/tocsin"
	}
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return d + "/tocsin"
	}
	if home, err := os.UserHomeDir(); err == nil {
		return home + "/.local/share/tocsin"
	}
	return "tocsin-data"
}
