package v1

import (
	"time"

	"tocsin.dev/tocsin/schemas"
)

// Layer is one layer of a manifest: where its blob can be fetched. Headers are
// sent with the fetch and never stored.
type Layer struct {
	Hash    string              `json:"hash" doc:"Digest of the layer's blob, as sha256:<hex>" example:"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	URI     string              `json:"uri,omitempty" doc:"http or https URL of the blob; empty for a blob uploaded to /api/v1/layers"`
	Headers map[string][]string `json:"headers,omitempty" doc:"Headers to send when fetching the blob, such as Authorization; not kept"`
}

// ManifestSpec is claircore's manifest: a digest and its layers, base first.
type ManifestSpec struct {
	Hash   string  `json:"hash" doc:"Digest of the manifest" example:"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	Config string  `json:"config,omitempty" doc:"Digest of the image's configuration, if it is known: it tells one image in two compressions from two images with the same files"`
	Layers []Layer `json:"layers" doc:"The layers, base first" minItems:"1" maxItems:"1000"`
}

// ImageRequest asks for an image to be indexed: exactly one of Image and
// Manifest.
type ImageRequest struct {
	Image     string            `json:"image,omitempty" doc:"Image reference to resolve at its registry" example:"registry.example.com/team/app:1.4" maxLength:"1024"`
	Manifest  *ManifestSpec     `json:"manifest,omitempty" doc:"A manifest with the URLs of its layers"`
	Names     []string          `json:"names,omitempty" doc:"Names people know the image by" maxItems:"64"`
	Labels    map[string]string `json:"labels,omitempty" doc:"Labels kept with the image; filters can use them"`
	Platforms []string          `json:"platforms,omitempty" doc:"Platforms of a multi-platform image to index, as os/arch[/variant]; default: all that run Linux" maxItems:"32"`
}

// Submitted is one manifest of an accepted request. Job is absent if it is
// indexed by the present scanners already, and Digest if a job has still to
// find it out.
type Submitted struct {
	Digest   string `json:"digest,omitempty"`
	Platform string `json:"platform,omitempty" doc:"os/arch[/variant], if an index said so"`
	Known    bool   `json:"known" doc:"Tocsin knew the manifest before"`
	Job      *Job   `json:"job,omitempty" doc:"The job that indexes it; absent if there is nothing to do"`
}

// Image is one manifest Tocsin was told of.
type Image struct {
	Digest          string              `json:"digest" doc:"Digest of the manifest"`
	Names           []string            `json:"names" doc:"Names people know the image by" nullable:"false"`
	Also            []string            `json:"also,omitempty" doc:"Digests of other compressions of the same image. They share their names, and events are about one of them"`
	Labels          map[string]string   `json:"labels" doc:"Labels kept with the image"`
	Platform        string              `json:"platform,omitempty" doc:"What it runs on, as os/arch[/variant], if that is known"`
	Verified        bool                `json:"verified" doc:"Whether a registry answered with it. Otherwise its layers are what somebody said they are"`
	Superseded      bool                `json:"superseded,omitempty" doc:"Names stood for it, and none does any more"`
	State           string              `json:"state" enum:"pending,indexed,failed,deleted,retired" doc:"How far indexing has come; retired is an image that no name has stood for, for indexer.retire_after: it is not watched until it is published again"`
	Reason          string              `json:"reason,omitempty" doc:"Why indexing failed"`
	Packages        int                 `json:"packages" doc:"Number of packages found"`
	Vulnerabilities *schemas.BySeverity `json:"vulnerabilities,omitempty" doc:"Findings now, by normalized severity"`
	Coverage        string              `json:"coverage,omitempty" enum:"full,partial,none" doc:"How much of it some loaded feed has advisories for; none means that nothing could be known"`
	CreatedAt       time.Time           `json:"created_at"`
	IndexedAt       *time.Time          `json:"indexed_at,omitempty"`
}

// ImageQuery selects images. Name is a shell pattern over names, in which *
// also matches slashes. Ref selects what one name stands for now, or the image
// with a digest.
type ImageQuery struct {
	Paging
	Ref   string
	Name  string
	State string
}

// Report is what is known to be wrong with one image now, the most severe
// finding first.
type Report struct {
	Manifest        schemas.Manifest   `json:"manifest"`
	Packages        int                `json:"packages" doc:"Number of packages found in the image"`
	Counts          schemas.BySeverity `json:"counts" doc:"Findings by normalized severity"`
	Fixable         int                `json:"fixable" doc:"Findings that name a fixed version"`
	Vulnerabilities []schemas.Finding  `json:"vulnerabilities" nullable:"false"`
	Coverage        schemas.Coverage   `json:"coverage" doc:"Of which packages something could be known"`
	Warnings        []string           `json:"warnings,omitempty" doc:"What could not be looked at or judged"`
}

// Blob is a layer blob held by the server.
type Blob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size" doc:"Bytes"`
}

// AffectedImage is one image that has a vulnerability now, with the findings
// of it.
type AffectedImage struct {
	Manifest schemas.Manifest  `json:"manifest"`
	Findings []schemas.Finding `json:"findings" nullable:"false"`
}

// ImageDiff is what changed for one image between two update operations.
type ImageDiff struct {
	Manifest schemas.Manifest         `json:"manifest"`
	Added    []schemas.Finding        `json:"added" nullable:"false"`
	Removed  []schemas.Finding        `json:"removed" nullable:"false"`
	Revised  []schemas.RevisedFinding `json:"revised" nullable:"false"`
}
