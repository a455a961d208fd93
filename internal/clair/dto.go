package clair

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// The wire types. Their fields are those of Clair's published schemas.

type manifest struct {
	Hash   string  `json:"hash"`
	Layers []layer `json:"layers"`
}

type layer struct {
	Hash    string              `json:"hash"`
	URI     string              `json:"uri"`
	Headers map[string][]string `json:"headers"`
}

type indexState struct {
	State string `json:"state"`
}

type indexReport struct {
	ManifestHash  string                   `json:"manifest_hash"`
	State         string                   `json:"state"`
	Packages      map[string]*pkg          `json:"packages"`
	Distributions map[string]*distribution `json:"distributions"`
	Repositories  map[string]*repository   `json:"repository"`
	Environments  map[string][]environment `json:"environments"`
	Success       bool                     `json:"success"`
	Err           string                   `json:"err"`
}

type vulnerabilityReport struct {
	ManifestHash           string                       `json:"manifest_hash"`
	Packages               map[string]*pkg              `json:"packages"`
	Distributions          map[string]*distribution     `json:"distributions"`
	Repositories           map[string]*repository       `json:"repository"`
	Environments           map[string][]environment     `json:"environments"`
	Vulnerabilities        map[string]*vulnerability    `json:"vulnerabilities"`
	PackageVulnerabilities map[string][]string          `json:"package_vulnerabilities"`
	Enrichments            map[string][]json.RawMessage `json:"enrichments"`
}

type pkg struct {
	ID                string `json:"id"`
	Name              string `json:"name"`
	Version           string `json:"version"`
	Kind              string `json:"kind,omitempty"`
	Source            *pkg   `json:"source,omitempty"`
	NormalizedVersion string `json:"normalized_version"`
	Module            string `json:"module,omitempty"`
	Arch              string `json:"arch,omitempty"`
	CPE               string `json:"cpe"`
}

type distribution struct {
	ID              string `json:"id"`
	DID             string `json:"did"`
	Name            string `json:"name"`
	Version         string `json:"version"`
	VersionCodeName string `json:"version_code_name"`
	VersionID       string `json:"version_id"`
	Arch            string `json:"arch"`
	CPE             string `json:"cpe"`
	PrettyName      string `json:"pretty_name"`
}

type repository struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	Key  string `json:"key,omitempty"`
	URI  string `json:"uri,omitempty"`
	CPE  string `json:"cpe"`
}

type environment struct {
	PackageDB      string   `json:"package_db"`
	IntroducedIn   string   `json:"introduced_in"`
	DistributionID string   `json:"distribution_id"`
	RepositoryIDs  []string `json:"repository_ids"`
}

type vulnerability struct {
	ID                 string        `json:"id"`
	Updater            string        `json:"updater"`
	Name               string        `json:"name"`
	Description        string        `json:"description"`
	Issued             time.Time     `json:"issued"`
	Links              string        `json:"links"`
	Severity           string        `json:"severity"`
	NormalizedSeverity string        `json:"normalized_severity"`
	Package            *pkg          `json:"package,omitempty"`
	Distribution       *distribution `json:"distribution,omitempty"`
	Repository         *repository   `json:"repository,omitempty"`
	FixedInVersion     string        `json:"fixed_in_version"`
	Range              *versionRange `json:"range,omitempty"`
	ArchOp             string        `json:"arch_op,omitempty"`
}

type versionRange struct {
	Lower string `json:"["`
	Upper string `json:")"`
}

type vulnerabilityBatch struct {
	Vulnerabilities []vulnerability `json:"vulnerabilities"`
}

type affectedManifests struct {
	Vulnerabilities     map[string]*vulnerability `json:"vulnerabilities"`
	VulnerableManifests map[string][]string       `json:"vulnerable_manifests"`
}

type updateOperation struct {
	Ref         uuid.UUID `json:"ref"`
	Updater     string    `json:"updater"`
	Fingerprint string    `json:"fingerprint"`
	Date        time.Time `json:"date"`
	Kind        string    `json:"kind"`
}

type updateDiff struct {
	Prev    updateOperation `json:"prev"`
	Cur     updateOperation `json:"cur"`
	Added   []vulnerability `json:"added"`
	Removed []vulnerability `json:"removed"`
}

type notificationPage struct {
	Page          page           `json:"page"`
	Notifications []Notification `json:"notifications"`
}

type page struct {
	Size int        `json:"size"`
	Next *uuid.UUID `json:"next,omitempty"`
}

// Notification says that one manifest's worst vulnerability of an update was
// added or removed.
type Notification struct {
	ID       uuid.UUID `json:"id"`
	Manifest string    `json:"manifest"`
	// Reason is "added" or "removed".
	Reason        string               `json:"reason"`
	Vulnerability VulnerabilitySummary `json:"vulnerability"`
}

// VulnerabilitySummary is the vulnerability of a [Notification]. Severity is a
// normalized severity, as Clair sends it, and NormalizedSeverity the same, as
// Clair's schema asks for it and Quay reads it.
type VulnerabilitySummary struct {
	Name           string               `json:"name"`
	Description    string               `json:"description"`
	Package        *SummaryPackage      `json:"package,omitempty"`
	Distribution   *SummaryDistribution `json:"distribution,omitempty"`
	Repository     *SummaryRepository   `json:"repo,omitempty"`
	Severity       string               `json:"severity"`
	FixedInVersion string               `json:"fixed_in_version"`
	Links          string               `json:"links"`

	NormalizedSeverity string `json:"normalized_severity"`
}

// SummaryPackage, SummaryDistribution and SummaryRepository are the things a
// [VulnerabilitySummary] is about.
type (
	SummaryPackage      = pkg
	SummaryDistribution = distribution
	SummaryRepository   = repository
)
