package main

import (
	"time"

	"tocsin.dev/tocsin/schemas"
)

// event is one type of event: when it is sent, an example of its data and of
// the attributes that go with it.
type event struct {
	typ        string
	when       string
	subject    string
	extensions map[string]any
	data       any
}

const (
	digest  = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1"
	eventID = "0198c0de-4c1e-7d3a-9b7e-2f4f5c6d7e8f"
	subID   = "0198c0de-0a1b-7c2d-8e3f-4a5b6c7d8e9f"
)

var (
	dependents = 12
	moment     = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	manifest   = schemas.Manifest{Digest: digest, Names: []string{"registry.example/team/app:1.4"}, Labels: map[string]string{"team": "payments"}}
	superseded = schemas.Manifest{Digest: digest, Names: manifest.Names, Labels: manifest.Labels, Superseded: true}
	update     = schemas.Update{
		Updater: "osv/go", Ref: "9f1c2f4e-6f0a-4b77-9a52-5d0d7f2f7a11", Previous: "1c7f0e9a-94e4-4c57-8d84-0f1a0e3f9b22", Date: moment,
	}
	finding = schemas.Finding{
		ID: "GO-2026-0001", Aliases: []string{"CVE-2026-1234", "GHSA-aaaa-bbbb-cccc"}, Updater: "osv/go",
		Severity: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", NormalizedSeverity: "High",
		Package:        schemas.Package{Name: "golang.org/x/net", Version: "v0.17.0", Kind: "binary"},
		Repository:     &schemas.Repository{Name: "go", URI: "https://pkg.go.dev/"},
		FixedInVersion: "v0.23.0", Links: []string{"https://pkg.go.dev/vuln/GO-2026-0001"},
		Description: "A peer can make a server read headers without end.",
		CVSS:        []schemas.CVSS{{Version: "3.1", Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", Score: 7.5}},
		EPSS:        &schemas.EPSS{Score: 0.61, Percentile: 0.97, Date: "2026-03-01"}, KEV: true,
	}
	ofUpdate = map[string]any{
		"severity": "High", "severityrank": 4, "fixable": true, "kev": true, "epss": 61, "updater": "osv/go",
		"added": 1, "removed": 0, "revised": 1, "firstload": false,
	}
	state = schemas.SubscriptionState{
		Subscription: subID, Name: "payments", Sink: "https://hooks.example", Protocol: "HTTP",
		Reason: "5 failures in a row, the last: 503 Service Unavailable", Since: &moment, Failures: 5,
	}
)

func with(m map[string]any, k string, v any) map[string]any {
	out := map[string]any{k: v}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// events are all types, in the order of schemas.Types.
var events = []event{
	{schemas.TypeManifestIndexed, "A manifest has been indexed", digest,
		map[string]any{"severity": "High", "severityrank": 4, "image": manifest.Names[0], "coverage": "partial"},
		schemas.ManifestIndexed{Manifest: manifest, Packages: 112, Vulnerabilities: schemas.BySeverity{High: 2, Low: 5},
			Coverage: &schemas.Coverage{State: schemas.CoveragePartial, Ecosystems: []schemas.EcosystemCoverage{
				{Name: "Debian GNU/Linux 12 (bookworm)", Packages: 110, Covered: 110, Feeds: []schemas.CoveringFeed{{Updater: "debian/updater", Date: moment}}},
				{Name: "npm", Packages: 2, Feeds: []schemas.CoveringFeed{}, Reason: "no feed that is loaded has advisories for it"},
			}}, IndexerState: "4f1e0c"}},
	{schemas.TypeManifestIndexFailed, "Indexing a manifest was given up", digest,
		map[string]any{"image": manifest.Names[0]},
		schemas.ManifestIndexFailed{Manifest: manifest, Job: eventID, Reason: "layer 3 is not a tar archive", Attempts: 5}},
	{schemas.TypeVulnerabilitiesChanged, "An update changed what the report of a manifest says", digest,
		with(ofUpdate, "image", manifest.Names[0]),
		schemas.VulnerabilitiesChanged{
			Manifest: manifest, Update: update,
			Counts:  schemas.Counts{Added: 1, Revised: 1, BySeverity: schemas.BySeverity{High: 1, Medium: 1}},
			Added:   []schemas.Finding{finding},
			Removed: []schemas.Finding{},
			Revised: []schemas.RevisedFinding{{
				Finding: schemas.Finding{
					ID: "CVE-2026-0007", Aliases: []string{}, Updater: "osv/go", Severity: "Medium", NormalizedSeverity: "Medium",
					Package:        schemas.Package{Name: "openssl", Version: "3.0.11-1", Kind: "binary", Arch: "amd64", Source: &schemas.Package{Name: "openssl", Version: "3.0.11-1", Kind: "source"}},
					Distribution:   &schemas.Distribution{DID: "debian", Name: "Debian GNU/Linux", VersionID: "12", VersionCodeName: "bookworm"},
					FixedInVersion: "3.0.13-1", Links: []string{}, Description: "",
				},
				Changes: []schemas.FieldChange{{Field: "fixed_in_version", From: "", To: "3.0.13-1"}},
			}},
			Links: schemas.Links{All: "https://tocsin.example/api/v1/events/" + eventID + "/findings", Report: "https://tocsin.example/api/v1/images/" + digest + "/report"},
		}},
	{schemas.TypeManifestRetired, "No name has stood for a manifest for long, and it is no longer watched", digest,
		map[string]any{"image": manifest.Names[0], "superseded": true},
		schemas.ManifestRetired{Manifest: superseded, SupersededAt: moment}},
	{schemas.TypeUpdateCompleted, "An update has been worked through", "",
		map[string]any{"updater": "osv/go", "firstload": false},
		schemas.UpdateCompleted{Update: update, Added: 14, Removed: 1, Revised: 3, Manifests: 9, Skipped: 1, Reasons: []string{"version \"1.x\" does not parse"}}},
	{schemas.TypeUpdateFailed, "A feed could not be updated", "",
		map[string]any{"updater": "osv/go"},
		schemas.UpdateFailed{Set: "osv", Updater: "osv/go", Reason: "GET https://osv.example/Go/all.zip: 404 Not Found"}},
	{schemas.TypeUpdateHeld, "A feed has shrunk so far that its update waits to be accepted", "",
		map[string]any{"updater": "osv/go"},
		schemas.UpdateHeld{Set: "osv", Updater: "osv/go", Rows: 5, Before: 2745}},
	{schemas.TypeUpdateStale, "A feed has failed for longer than it may", "",
		map[string]any{"updater": "osv/go"},
		schemas.UpdateStale{
			Set: "osv", Updater: "osv/go", Reason: "GET https://osv.example/Go/all.zip: 404 Not Found", FailingSince: moment, LastSuccess: &moment, Images: &dependents,
		}},
	{schemas.TypeManifestsChanged, "A digest of all the manifests that an update touched", "",
		ofUpdate,
		schemas.ManifestsChanged{
			Update: update, Total: 1, Counts: schemas.DigestCounts{Added: 1, Revised: 1, BySeverity: schemas.BySeverity{High: 1}},
			Manifests: []schemas.ChangedManifest{{Event: eventID, Digest: digest, Image: manifest.Names[0], Severity: "High", Fixable: true, KEV: true, Added: 1, Revised: 1}},
			Links:     schemas.Links{All: "https://tocsin.example/api/v1/events/" + eventID + "/manifests"},
		}},
	{schemas.TypeSubscriptionFailing, "A subscription's breaker opened", "", nil, state},
	{schemas.TypeSubscriptionRecovered, "A subscription's breaker closed", "", nil, schemas.SubscriptionState{Subscription: subID, Name: "payments", Sink: state.Sink, Protocol: "HTTP", Since: &moment}},
	{schemas.TypeSubscriptionDisabled, "A subscription was given up", "", nil, state},
	{schemas.TypeJobRejected, "A message could not be understood", "", nil,
		schemas.JobRejected{Job: eventID, Kind: "manifest", Reason: "not JSON: invalid character 'h'", Payload: "hello"}},
	{schemas.TypePing, "A test event was asked for", "", nil, schemas.Ping{Subscription: subID, Message: "This is a test."}},
}

// example is the whole CloudEvent.
func example(e event) object {
	o := object{
		"specversion": "1.0", "id": eventID, "source": "urn:tocsin:4e0f4c1d-8a7b-4c3e-9f2a-1b0c9d8e7f6a", "type": e.typ,
		"time": moment.Format(time.RFC3339), "datacontenttype": "application/json",
		"dataschema": "https://tocsin.example/schemas/" + e.typ + ".json", "data": e.data,
	}
	if e.subject != "" {
		o["subject"] = e.subject
	}
	for k, v := range e.extensions {
		o[k] = v
	}
	return o
}
