package clairconfig

// A Key is one key of Clair's configuration.
type Key struct {
	// Path is its place, such as matcher.cache_age; with ".*" at the end it is a
	// mapping whose keys are free.
	Path string
	// Becomes is the key of Tocsin's configuration, or the flag of tocsin
	// subscribe, that it is translated to; "" if there is none.
	Becomes string
	// Why says why there is none, or what is different.
	Why string

	apply func(t *translation, v any) error
}

// Reasons that hold for many keys.
const (
	whyTrace   = "traces are carried on events and messages (traceparent) and not exported"
	whyMetrics = "metrics are for Prometheus, at /metrics of the introspection address; a collector can scrape them"
	whyTLS     = "Tocsin speaks plain HTTP: a proxy or an ingress in front of it ends TLS"
	whyOneDB   = "there is one database; that of Clair's indexer is taken, and the tables of the others have to be copied there if they are elsewhere"
	whyMigrate = "migrations always run, under a lock; tocsin migrate runs them beforehand"
	whyInside  = "the roles of one process, or of several on one database, need no addresses of one another"
	whyCert    = "a client certificate is given over the API, as sinkcredential.certificate and key of the subscription"
)

// Keys are all keys of Clair 4.9, in the order of its documentation.
func Keys() []Key {
	keys := []Key{
		{Path: "http_listen_addr", Becomes: "listen", apply: set("listen")},
		{Path: "introspection_addr", Becomes: "introspection", apply: set("introspection")},
		{Path: "log_level", Becomes: "log.level", Why: "debug-color is debug, fatal and panic are error", apply: logLevel},
		{Path: "tls.cert", Why: whyTLS}, {Path: "tls.key", Why: whyTLS}, {Path: "tls.root_ca", Why: whyTLS},

		{Path: "indexer.connstring", Becomes: "database.url", apply: connString},
		{Path: "indexer.scanlock_retry", Why: "a lock is waited for, not asked for again and again"},
		{Path: "indexer.layer_scan_concurrency", Becomes: "indexer.layer_concurrency", apply: unlessZero("indexer.layer_concurrency")},
		{Path: "indexer.index_report_request_concurrency", Becomes: "indexer.request_concurrency", Why: "requests that only wait for their job don't count", apply: set("indexer.request_concurrency")},
		{Path: "indexer.migrations", Why: whyMigrate},
		{Path: "indexer.airgap", Why: "layers are fetched from where the manifest says; networks that are not the public internet are refused unless indexer.allow_networks has them, and a rule of the network keeps Tocsin from the internet"},
		{Path: "indexer.scanner.package.*", Becomes: "indexer.scanners.package", Why: "with claircore's own keys, as in Clair", apply: set("indexer.scanners.package")},
		{Path: "indexer.scanner.dist.*", Becomes: "indexer.scanners.dist", Why: "with claircore's own keys, as in Clair", apply: set("indexer.scanners.dist")},
		{Path: "indexer.scanner.repo.*", Becomes: "indexer.scanners.repo", Why: "with claircore's own keys, as in Clair", apply: set("indexer.scanners.repo")},

		{Path: "matcher.connstring", Becomes: "database.url", Why: whyOneDB, apply: connString},
		{Path: "matcher.indexer_addr", Why: whyInside},
		{Path: "matcher.period", Becomes: "updaters.schedules", Why: "of default, as @every", apply: period},
		{Path: "matcher.update_retention", Becomes: "matcher.retention", Why: "operations that are still to be told of are kept beyond it; below 2 Clair's default is taken", apply: retention},
		{Path: "matcher.max_conn_pool", Why: "Clair does not read it; database.max_conns bounds the pool"},
		{Path: "matcher.cache_age", Becomes: "matcher.cache_age", Why: "without it Clair takes the period", apply: set("matcher.cache_age")},
		{Path: "matcher.migrations", Why: whyMigrate},
		{Path: "matcher.disable_updaters", Becomes: "updaters.schedules", Why: "off: nothing runs by itself, and archives are read with tocsin updaters import", apply: disableUpdaters},
		{Path: "matcher.disable_enrichment", Why: "name the updater sets to run without clair.cvss, epss and kev in updaters.sets: without their data nothing is enriched"},

		{Path: "matchers.names", Becomes: "matcher.names", apply: set("matcher.names")},
		{Path: "matchers.config.*", Becomes: "matcher.config", apply: set("matcher.config")},

		{Path: "updaters.sets", Becomes: "updaters.sets", apply: set("updaters.sets")},
		{Path: "updaters.config.*", Becomes: "updaters.config", apply: set("updaters.config")},
		{Path: "updaters.filter", Becomes: "updaters.filter", Why: "Clair's server ignores it, and clairctl reads it", apply: set("updaters.filter")},

		{Path: "notifier.connstring", Becomes: "database.url", Why: whyOneDB, apply: connString},
		{Path: "notifier.indexer_addr", Why: whyInside}, {Path: "notifier.matcher_addr", Why: whyInside},
		{Path: "notifier.migrations", Why: whyMigrate},
		{Path: "notifier.poll_interval", Why: "an update is told of when it is committed, not when a poll finds it"},
		{Path: "notifier.delivery_interval", Why: "a delivery begins when its event is committed; failed ones are tried again by delivery.schedule"},
		{Path: "notifier.disable_summary", Becomes: "notifier.disable_summary", apply: set("notifier.disable_summary")},

		{Path: "notifier.webhook.target", Becomes: "tocsin subscribe URL", apply: sink(webhook)},
		{Path: "notifier.webhook.callback", Becomes: "tocsin subscribe --callback", Why: "where it ends with Clair's path, it is public_url instead", apply: webhookCallback},
		{Path: "notifier.webhook.headers.*", Becomes: "tocsin subscribe --header", Why: "credentials are kept sealed instead: a bearer token in TOCSIN_SINK_TOKEN", apply: webhookHeaders},
		{Path: "notifier.webhook.signed", Why: "with auth.psk configured every webhook of mode clair brings a token, as in Clair; it brings a signature of its body beside it"},

		{Path: "notifier.amqp.uris", Becomes: "tocsin subscribe URL --failover", Why: "user and password go into --user and TOCSIN_SINK_PASSWORD", apply: amqpURIs},
		{Path: "notifier.amqp.exchange.name", Becomes: "tocsin subscribe --exchange", apply: flag(amqp, "exchange")},
		{Path: "notifier.amqp.exchange.type", Becomes: "tocsin subscribe --exchange-type", apply: flag(amqp, "exchange-type")},
		{Path: "notifier.amqp.exchange.durability", Why: "the exchange has to be there and is looked at passively, as by Clair; --declare active makes a durable one"},
		{Path: "notifier.amqp.exchange.auto_delete", Why: "the exchange has to be there and is looked at passively, as by Clair"},
		{Path: "notifier.amqp.routing_key", Becomes: "tocsin subscribe --routing-key", apply: flag(amqp, "routing-key")},
		{Path: "notifier.amqp.callback", Becomes: "tocsin subscribe --callback", apply: flag(amqp, "callback")},
		{Path: "notifier.amqp.direct", Becomes: "tocsin subscribe --direct", Why: "messages are confirmed one by one instead of in a transaction; a repeat has the same message-id", apply: toggle(amqp, "direct")},
		{Path: "notifier.amqp.rollup", Becomes: "tocsin subscribe --rollup", apply: flag(amqp, "rollup")},
		{Path: "notifier.amqp.tls.root_ca", Becomes: "tocsin subscribe --ca-file", apply: flag(amqp, "ca-file")},
		{Path: "notifier.amqp.tls.cert", Why: whyCert}, {Path: "notifier.amqp.tls.key", Why: whyCert},

		{Path: "notifier.stomp.uris", Becomes: "tocsin subscribe URL --failover", apply: stompURIs},
		{Path: "notifier.stomp.destination", Becomes: "tocsin subscribe --destination", apply: flag(stomp, "destination")},
		{Path: "notifier.stomp.user.login", Becomes: "tocsin subscribe --user", apply: flag(stomp, "user")},
		{Path: "notifier.stomp.user.passcode", Becomes: "TOCSIN_SINK_PASSWORD", Why: "of tocsin subscribe", apply: password(stomp)},
		{Path: "notifier.stomp.callback", Becomes: "tocsin subscribe --callback", apply: flag(stomp, "callback")},
		{Path: "notifier.stomp.direct", Becomes: "tocsin subscribe --direct", Why: "each message has its receipt, instead of a transaction of all", apply: toggle(stomp, "direct")},
		{Path: "notifier.stomp.rollup", Becomes: "tocsin subscribe --rollup", apply: flag(stomp, "rollup")},
		{Path: "notifier.stomp.tls.root_ca", Becomes: "tocsin subscribe --ca-file", apply: flag(stomp, "ca-file")},
		{Path: "notifier.stomp.tls.cert", Why: whyCert}, {Path: "notifier.stomp.tls.key", Why: whyCert},

		{Path: "auth.psk.key", Becomes: "auth.psk.key", apply: set("auth.psk.key")},
		{Path: "auth.psk.iss", Becomes: "auth.psk.iss", apply: set("auth.psk.iss")},
		{Path: "auth.keyserver.api", Why: "Clair has dropped it and refuses it: use auth.psk"},
		{Path: "auth.keyserver.intraservice", Why: "Clair has dropped it and refuses it: use auth.psk"},

		{Path: "trace.name", Why: whyTrace}, {Path: "trace.probability", Why: whyTrace},
		{Path: "trace.sentry.dsn", Why: whyTrace}, {Path: "trace.sentry.environment", Why: whyTrace},
		{Path: "metrics.name", Why: whyMetrics},
		{Path: "metrics.prometheus.endpoint", Why: "it is /metrics of the introspection address, always"},
	}
	for _, k := range []string{"agent.endpoint", "buffer_max", "collector.endpoint", "collector.password", "collector.username", "service_name", "tags.*"} {
		keys = append(keys, Key{Path: "trace.jaeger." + k, Why: whyTrace})
	}
	for _, section := range []struct{ name, why string }{{"trace", whyTrace}, {"metrics", whyMetrics}} {
		for _, over := range []string{"http", "grpc"} {
			all := []string{"client_tls.cert", "client_tls.key", "client_tls.root_ca", "compression", "endpoint", "headers.*", "insecure", "timeout"}
			if over == "http" {
				all = append(all, "url_path")
			} else {
				all = append(all, "reconnect", "service_config")
			}
			for _, k := range all {
				keys = append(keys, Key{Path: section.name + ".otlp." + over + "." + k, Why: section.why})
			}
		}
	}
	return keys
}
