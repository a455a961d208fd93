package v1

import "time"

// Job is one piece of work: a manifest to index or an updater set to run.
type Job struct {
	ID       string `json:"id" doc:"UUID of the job"`
	Kind     string `json:"kind" doc:"manifest or update" example:"manifest"`
	Key      string `json:"key" doc:"What the job is about: an image, a digest or an updater set"`
	State    string `json:"state" doc:"queued, running, done or failed"`
	Attempts int    `json:"attempts" doc:"Attempts so far"`
	Reason   string `json:"reason,omitempty" doc:"Why the last attempt failed"`
	Message  string `json:"message,omitempty" doc:"The beginning of the message that nobody could understand, without what looks like a credential"`
	Messages int    `json:"messages,omitempty" doc:"How many messages that nobody could understand the job stands for: after the first few in ten minutes, the others share one"`
	Progress string `json:"progress,omitempty" doc:"What the job is doing now"`
	Result   string `json:"result,omitempty" doc:"What came of it, such as a manifest digest"`
	// WaitingFor is in the answer about one job, not in lists.
	WaitingFor string    `json:"waiting_for,omitempty" doc:"What a queued job waits for; in the answer about one job alone"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	// Done and Failed say how it ended; neither is set while it is under way.
	Done   bool `json:"done" doc:"The job has ended well"`
	Failed bool `json:"failed" doc:"The job was given up"`
}

// JobQuery selects jobs, newest first.
type JobQuery struct {
	Paging
	Kind   string
	State  string
	Failed bool
}

// Updater is the state of one updater of one set.
type Updater struct {
	Set        string     `json:"set" doc:"Updater set, as osv"`
	Name       string     `json:"name" doc:"Updater, as osv/go"`
	Status     string     `json:"status" doc:"How the last run ended: updated, unchanged, failed or never"`
	Error      string     `json:"error,omitempty" doc:"Why the last run failed"`
	Ref        string     `json:"ref,omitempty" doc:"The newest update operation"`
	LastRun    *time.Time `json:"last_run,omitempty"`
	LastOK     *time.Time `json:"last_success,omitempty"`
	Fetched    int        `json:"vulnerabilities,omitempty" doc:"Advisories in the last update"`
	Enrichment bool       `json:"enrichment,omitempty" doc:"It is an enricher (CVSS, EPSS, KEV), not a vulnerability feed"`
}

// UpdaterSet is one set of updaters and its schedule.
type UpdaterSet struct {
	Name     string     `json:"name" doc:"Updater set, as osv"`
	Schedule string     `json:"schedule" doc:"Cron expression or @every duration"`
	Next     *time.Time `json:"next,omitempty" doc:"When it is due next"`
	About    string     `json:"about,omitempty" doc:"What the set is"`
	Fixed    string     `json:"fixed_addresses,omitempty" doc:"Addresses that the set uses whatever its configuration says"`
	Enabled  bool       `json:"enabled" doc:"It runs by its schedule"`
	Running  bool       `json:"running" doc:"A run is under way"`
	Status   string     `json:"status,omitempty" doc:"How the last run of the set as a whole ended"`
	Error    string     `json:"error,omitempty" doc:"Why the set's last run failed as a whole"`
	LastRun  *time.Time `json:"last_run,omitempty"`
	Updaters []Updater  `json:"updaters" nullable:"false"`
}

// UpdateRequest asks for an updater set to run now; an empty set means all.
type UpdateRequest struct {
	Set    string `json:"set,omitempty" doc:"Updater set to run; empty for all" example:"osv" maxLength:"128"`
	Accept bool   `json:"accept,omitempty" doc:"Let through what is held back of the set, which may be the name of one updater here"`
}

// ImportResult says what an import of an airgap archive did.
type ImportResult struct {
	Updaters int `json:"updaters" doc:"Updaters whose data was imported"`
}
