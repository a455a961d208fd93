// Package api answers the interfaces of package httpapi with the roles: it
// translates between the API's own types (httpapi/v1) and those of the domain
// packages, and turns their errors into those that the API has a status for.
//
// It decides nothing, starts nothing and keeps no state. A new route has its
// types in httpapi/v1, its interface and registration in httpapi, its method
// here, and its command in internal/cli.
package api

import (
	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/updater"
)

// Roles are what the API stands on. All of them are needed.
type Roles struct {
	Indexer       *indexer.Indexer
	Uploads       *blobs.Store
	Jobs          *jobs.Store
	Matcher       *matcher.Engine
	Updater       *updater.Service
	Events        *eventlog.Log
	Notifier      *notifier.Notifier
	Subscriptions *subscription.Store
	Delivery      *delivery.Store
	Tokens        *access.Store
	Audit         *access.Audit
	// GitHubSecret is the secret of GitHub's webhooks; "" for none.
	GitHubSecret string
}

// Services are the roles as the API sees them.
func Services(r Roles) httpapi.Services {
	sent := deliveries{r.Subscriptions, r.Events, r.Delivery}
	return httpapi.Services{
		Images: images{r.Indexer, r.Matcher}, Blobs: blobStore{r.Uploads}, Reports: reports{r.Indexer, r.Matcher}, Jobs: jobQueue{r.Jobs},
		Updaters: updaters{r.Updater}, Events: events{r.Events, r.Notifier, r.Subscriptions, updaters{r.Updater}}, Subscriptions: subscriptions{r.Subscriptions, r.Notifier, r.Matcher},
		Deliveries: sent, Stats: stats{r.Indexer, r.Jobs, r.Matcher, sent}, Tokens: r.Tokens, Audit: r.Audit,
		Ingest: registries{r.Indexer, r.GitHubSecret}, Follows: follows{r.Indexer},
	}
}
