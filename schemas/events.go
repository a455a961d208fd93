package schemas

import (
	"time"
)

// Event types that Tocsin emits. Each is the CloudEvents "type" attribute.
const (
	TypeManifestIndexed        = "dev.tocsin.manifest.indexed.v1"
	TypeManifestIndexFailed    = "dev.tocsin.manifest.index_failed.v1"
	TypeVulnerabilitiesChanged = "dev.tocsin.manifest.vulnerabilities_changed.v1"
	TypeManifestRetired        = "dev.tocsin.manifest.retired.v1"
	TypeUpdateCompleted        = "dev.tocsin.update.completed.v1"
	TypeManifestsChanged       = "dev.tocsin.update.manifests_changed.v1"
	TypeUpdateFailed           = "dev.tocsin.update.failed.v1"
	TypeUpdateHeld             = "dev.tocsin.update.held.v1"
	TypeUpdateStale            = "dev.tocsin.update.stale.v1"
	TypeSubscriptionFailing    = "dev.tocsin.subscription.failing.v1"
	TypeSubscriptionRecovered  = "dev.tocsin.subscription.recovered.v1"
	TypeSubscriptionDisabled   = "dev.tocsin.subscription.disabled.v1"
	TypeJobRejected            = "dev.tocsin.job.rejected.v1"
	TypePing                   = "dev.tocsin.ping.v1"
)

// TypePrefix starts every event type; what follows it is the NATS subject's
// tail under "tocsin.events.".
const TypePrefix = "dev.tocsin."

// Manifest names one container image manifest in an event.
type Manifest struct {
	Digest string            `json:"digest"`
	Names  []string          `json:"names"`
	Labels map[string]string `json:"labels"`
	// Also are the digests of other compressions of the same image, of which
	// there are no events of their own.
	Also []string `json:"also,omitempty"`
	// Superseded says that names stood for the manifest and that none does any
	// more.
	Superseded bool `json:"superseded,omitempty"`
}

// Update names the step of one updater that an event speaks of. Previous is
// empty on a first load.
type Update struct {
	Updater   string    `json:"updater"`
	Ref       string    `json:"ref"`
	Previous  string    `json:"previous,omitempty"`
	Date      time.Time `json:"date"`
	FirstLoad bool      `json:"first_load"`
}

// BySeverity counts findings by normalized severity.
type BySeverity struct {
	Unknown    int `json:"unknown"`
	Negligible int `json:"negligible"`
	Low        int `json:"low"`
	Medium     int `json:"medium"`
	High       int `json:"high"`
	Critical   int `json:"critical"`
}

// Add counts n more findings of the normalized severity with the given rank
// (0 Unknown … 5 Critical); other ranks count as Unknown.
func (b *BySeverity) Add(rank, n int) {
	switch rank {
	case 5:
		b.Critical += n
	case 4:
		b.High += n
	case 3:
		b.Medium += n
	case 2:
		b.Low += n
	case 1:
		b.Negligible += n
	default:
		b.Unknown += n
	}
}

// Counts is how many findings an update added, removed and revised; BySeverity
// counts the added and the revised ones.
type Counts struct {
	Added      int        `json:"added"`
	Removed    int        `json:"removed"`
	Revised    int        `json:"revised"`
	BySeverity BySeverity `json:"by_severity"`
}

// Package is the package a finding is about; Source is the source package it
// was built from, where the package database names one.
type Package struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Kind    string   `json:"kind,omitempty"`
	Arch    string   `json:"arch,omitempty"`
	Module  string   `json:"module,omitempty"`
	Source  *Package `json:"source,omitempty"`
}

// Distribution is the operating system a finding's package belongs to.
type Distribution struct {
	DID             string `json:"did,omitempty"`
	Name            string `json:"name,omitempty"`
	Version         string `json:"version,omitempty"`
	VersionID       string `json:"version_id,omitempty"`
	VersionCodeName string `json:"version_code_name,omitempty"`
	PrettyName      string `json:"pretty_name,omitempty"`
	Arch            string `json:"arch,omitempty"`
	CPE             string `json:"cpe,omitempty"`
}

// Repository is the package repository a finding's package came from.
type Repository struct {
	Name string `json:"name,omitempty"`
	Key  string `json:"key,omitempty"`
	URI  string `json:"uri,omitempty"`
	CPE  string `json:"cpe,omitempty"`
}

// CVSS is one score of a vulnerability.
type CVSS struct {
	Version string  `json:"version,omitempty"`
	Vector  string  `json:"vector,omitempty"`
	Score   float64 `json:"score,omitempty"`
}

// EPSS is the exploit prediction of a vulnerability; both figures are
// probabilities from 0 to 1.
type EPSS struct {
	Score      float64 `json:"score"`
	Percentile float64 `json:"percentile"`
	Date       string  `json:"date,omitempty"`
}

// Finding is one vulnerability in one package of one manifest.
type Finding struct {
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases"`
	Updater  string   `json:"updater"`
	Severity string   `json:"severity"`
	// NormalizedSeverity is the publisher's severity, else that of the CVSS
	// scores of its CVE ids.
	NormalizedSeverity string `json:"normalized_severity"`
	// SeveritySource is where NormalizedSeverity is from: "feed", the publisher's
	// rating; "cvss", the advisory's own vector; "enrichment", the scores of its
	// CVE ids; absent for an unknown severity.
	SeveritySource string        `json:"severity_source,omitempty"`
	Package        Package       `json:"package"`
	Distribution   *Distribution `json:"distribution,omitempty"`
	Repository     *Repository   `json:"repository,omitempty"`
	FixedInVersion string        `json:"fixed_in_version"`
	Links          []string      `json:"links"`
	Description    string        `json:"description"`
	Issued         *time.Time    `json:"issued,omitempty"`
	CVSS           []CVSS        `json:"cvss,omitempty"`
	EPSS           *EPSS         `json:"epss,omitempty"`
	KEV            bool          `json:"kev"`
}

// FieldChange is one field of a revised finding: what it was and what it is.
type FieldChange struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// RevisedFinding is a finding that was there before the update and still is,
// with what changed about it: "severity", "normalized_severity",
// "fixed_in_version", "kev" or "epss".
type RevisedFinding struct {
	Finding
	Changes []FieldChange `json:"changes"`
}

// Links are URLs of this server for the rest of the story.
type Links struct {
	All    string `json:"all,omitempty"`
	Report string `json:"report,omitempty"`
}

// VulnerabilitiesChanged is the data of TypeVulnerabilitiesChanged. The lists
// hold the most severe findings first; Truncated says that they were cut to
// keep the event under its size limit, and Links.All where the rest is.
type VulnerabilitiesChanged struct {
	Manifest  Manifest         `json:"manifest"`
	Update    Update           `json:"update"`
	Counts    Counts           `json:"counts"`
	Added     []Finding        `json:"added"`
	Removed   []Finding        `json:"removed"`
	Revised   []RevisedFinding `json:"revised"`
	Truncated bool             `json:"truncated"`
	Links     Links            `json:"links"`
}

// ManifestIndexed is the data of TypeManifestIndexed.
type ManifestIndexed struct {
	Manifest        Manifest   `json:"manifest"`
	Packages        int        `json:"packages"`
	Vulnerabilities BySeverity `json:"vulnerabilities"`
	// Coverage says of which packages something could be known.
	Coverage     *Coverage `json:"coverage,omitempty"`
	IndexerState string    `json:"indexer_state"`
	Reindexed    bool      `json:"reindexed"`
	Warnings     []string  `json:"warnings,omitempty"`
	// Snapshot tells that the manifest was there before, and that a new
	// subscription asked for what is there.
	Snapshot bool `json:"snapshot,omitempty"`
}

// ManifestIndexFailed is the data of TypeManifestIndexFailed.
type ManifestIndexFailed struct {
	Manifest Manifest `json:"manifest"`
	Job      string   `json:"job,omitempty"`
	Reason   string   `json:"reason"`
	Attempts int      `json:"attempts"`
}

// ManifestRetired is the data of TypeManifestRetired: no name has stood for the
// manifest since SupersededAt, and updates are not held against it any more. It
// is back when it is published again.
type ManifestRetired struct {
	Manifest     Manifest  `json:"manifest"`
	SupersededAt time.Time `json:"superseded_at"`
}

// UpdateCompleted is the data of TypeUpdateCompleted. Added, Removed and
// Revised count advisories of the feed, not findings.
type UpdateCompleted struct {
	Update    Update `json:"update"`
	Added     int    `json:"added"`
	Removed   int    `json:"removed"`
	Revised   int    `json:"revised"`
	Manifests int    `json:"manifests_affected"`
	// Skipped counts (advisory, package) pairs that could not be judged, as
	// with a version that does not parse; Reasons has examples.
	Skipped int      `json:"skipped"`
	Reasons []string `json:"reasons,omitempty"`
}

// ManifestsChanged is the data of TypeManifestsChanged: one digest of every
// TypeVulnerabilitiesChanged event of an update, or of those that a
// subscription of granularity "update" asks for. Counts sums theirs; Manifests
// lists at most the first hundred, most severe first; Links.All pages through
// all of them.
type ManifestsChanged struct {
	Update    Update            `json:"update"`
	Total     int               `json:"manifests_changed"`
	Counts    DigestCounts      `json:"counts"`
	Manifests []ChangedManifest `json:"manifests"`
	Truncated bool              `json:"truncated"`
	Links     Links             `json:"links"`
}

// DigestCounts sums findings over manifests; BySeverity counts manifests by the
// top normalized severity among what was added and revised.
type DigestCounts struct {
	Added      int64      `json:"added"`
	Removed    int64      `json:"removed"`
	Revised    int64      `json:"revised"`
	BySeverity BySeverity `json:"by_severity"`
}

// ChangedManifest is one manifest in a digest; Event is the id of its
// TypeVulnerabilitiesChanged event.
type ChangedManifest struct {
	Event    string `json:"event"`
	Digest   string `json:"digest"`
	Image    string `json:"image,omitempty"`
	Severity string `json:"severity"`
	Fixable  bool   `json:"fixable"`
	KEV      bool   `json:"kev"`
	Added    int    `json:"added"`
	Removed  int    `json:"removed"`
	Revised  int    `json:"revised"`
	// Superseded says that no name stood for the manifest any more.
	Superseded bool `json:"superseded,omitempty"`
}

// UpdateFailed is the data of TypeUpdateFailed.
type UpdateFailed struct {
	Set     string `json:"set"`
	Updater string `json:"updater,omitempty"`
	Reason  string `json:"reason"`
}

// UpdateHeld is the data of TypeUpdateHeld: an update would leave Rows of the
// Before rows that a feed had, which is less than it may, and waits until
// somebody accepts it. What was stored before stays in use.
type UpdateHeld struct {
	Set     string `json:"set"`
	Updater string `json:"updater"`
	Rows    int64  `json:"rows"`
	Before  int64  `json:"before"`
}

// UpdateStale is the data of TypeUpdateStale: an updater, or a whole set if
// Updater is empty, has failed for longer than it may, and what is known from it
// is out of date. It is announced once, until the updater has run well again, and
// not while no image depends on it.
type UpdateStale struct {
	Set          string     `json:"set"`
	Updater      string     `json:"updater,omitempty"`
	Reason       string     `json:"reason"`
	FailingSince time.Time  `json:"failing_since"`
	LastSuccess  *time.Time `json:"last_success,omitempty"`
	// Images is how many images have packages that the feed speaks of; absent
	// where it was never loaded, so that nobody knows.
	Images *int `json:"images,omitempty"`
}

// SubscriptionState is the data of the three subscription events. In an event
// Sink is the scheme and the host alone: a path may be a secret. On NATS Name,
// Sink and Reason are empty: they are for the subscription's owner.
type SubscriptionState struct {
	Subscription string     `json:"subscription"`
	Name         string     `json:"name,omitempty"`
	Sink         string     `json:"sink"`
	Protocol     string     `json:"protocol"`
	Reason       string     `json:"reason,omitempty"`
	Since        *time.Time `json:"since,omitempty"`
	Failures     int        `json:"failures,omitempty"`
}

// JobRejected is the data of TypeJobRejected: a message that could not be
// understood. Payload holds at most its first KiB.
type JobRejected struct {
	Job     string `json:"job"`
	Kind    string `json:"kind"`
	Reason  string `json:"reason"`
	Payload string `json:"payload"`
}

// Ping is the data of TypePing.
type Ping struct {
	Subscription string `json:"subscription,omitempty"`
	Message      string `json:"message"`
}

// SeverityRank orders normalized severities: 0 Unknown, 1 Negligible, 2 Low,
// 3 Medium, 4 High, 5 Critical. Unrecognised names rank 0.
func SeverityRank(normalized string) int {
	for i, n := range SeverityNames {
		if n == normalized {
			return i
		}
	}
	return 0
}

// SeverityNames are the normalized severities by rank.
var SeverityNames = [...]string{"Unknown", "Negligible", "Low", "Medium", "High", "Critical"}

// ChangeKey finds the rows that one VulnerabilitiesChanged event is rendered
// from: the change, and what the manifest held and was called at that moment.
type ChangeKey struct {
	ChangeID    int64
	ManifestID  int32
	InventoryID int64
	NamingID    int64
}

// IndexedEvent is what matcher hands to notifier when a manifest's inventory
// has been recorded.
type IndexedEvent struct {
	ManifestID  int32
	InventoryID int64
	NamingID    int64
	Data        ManifestIndexed
	Extensions  Extensions
}

// RetiredEvent is what indexer hands to notifier when a manifest is retired.
type RetiredEvent struct {
	ManifestID int32
	NamingID   int64
	Data       ManifestRetired
}

// NewDelivery is one event to be delivered to one subscription.
type NewDelivery struct {
	EventID        [16]byte
	SubscriptionID [16]byte
}
