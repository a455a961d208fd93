package notifier

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// ClairPage is a page of notifications as Clair's notifier API has it.
type ClairPage struct {
	Page          ClairPaging         `json:"page"`
	Notifications []ClairNotification `json:"notifications"`
}

// ClairPaging is where a page stands. Next is absent on the last one.
type ClairPaging struct {
	Size int    `json:"size"`
	Next string `json:"next,omitempty"`
}

// ClairNotification says what became of one manifest: the worst that was
// added, or the worst that was removed.
type ClairNotification struct {
	ID            string             `json:"id"`
	Manifest      string             `json:"manifest"`
	Reason        string             `json:"reason"` // added or removed
	Vulnerability ClairVulnerability `json:"vulnerability"`
}

// ClairVulnerability is Clair's summary of a vulnerability.
type ClairVulnerability struct {
	Name           string             `json:"name"`
	FixedInVersion string             `json:"fixed_in_version"`
	Severity       string             `json:"severity"` // normalized
	Description    string             `json:"description"`
	Links          string             `json:"links"`
	Package        *ClairPackage      `json:"package,omitempty"`
	Distribution   *ClairDistribution `json:"distribution,omitempty"`
	Repo           *ClairRepository   `json:"repo,omitempty"`
}

// ClairPackage is Clair's package.
type ClairPackage struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Kind    string        `json:"kind,omitempty"`
	Source  *ClairPackage `json:"source,omitempty"`
	Module  string        `json:"module,omitempty"`
	Arch    string        `json:"arch,omitempty"`
}

// ClairDistribution is Clair's distribution.
type ClairDistribution struct {
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

// ClairRepository is Clair's repository.
type ClairRepository struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	Key  string `json:"key,omitempty"`
	URI  string `json:"uri,omitempty"`
	CPE  string `json:"cpe,omitempty"`
}

// clairPageSize is what Clair answers when it is not asked for a size.
const clairPageSize = 500

const notificationDeleted = `SELECT EXISTS (SELECT FROM tocsin.notification_deleted WHERE event_id = @id)`

const deleteNotification = `INSERT INTO tocsin.notification_deleted (event_id) VALUES (@id) ON CONFLICT DO NOTHING`

const eventOfNotification = `
SELECT id FROM tocsin.event WHERE id IN (@id, @twin) AND change_id = @change AND type = '` + schemas.TypeVulnerabilitiesChanged + `'`

// Notification is a page of what Clair's API calls a notification: the
// manifests of a digest, the id of which a subscription of mode clair was sent.
// size is 500 if it is 0; next is what the page before said. One that there is
// not, or that was deleted, has an empty page, as with Clair.
func (n *Notifier) Notification(ctx context.Context, id uuid.UUID, size int, next string) (ClairPage, error) {
	if size <= 0 {
		size = clairPageSize
	}
	size = min(size, eventlog.MaxPage)
	page := ClairPage{Page: ClairPaging{Size: size}, Notifications: []ClairNotification{}}
	d, err := n.digestRecord(ctx, id)
	if errors.Is(err, problem.NotFound) {
		return page, nil
	}
	if err != nil {
		return page, err
	}
	var deleted bool
	if err := n.Pool.QueryRow(ctx, notificationDeleted, pgx.NamedArgs{"id": id}).Scan(&deleted); err != nil {
		return page, fmt.Errorf("notifier: read notification: %w", err)
	}
	if deleted {
		return page, nil
	}
	after, rest, err := n.clairCursor(ctx, d, next)
	if err != nil {
		return page, err
	}
	// What was returned last may have had a second half.
	if rest != nil {
		_, removed, err := n.clairNotifications(ctx, rest)
		if err != nil {
			return page, err
		}
		if removed != nil {
			page.Notifications = append(page.Notifications, *removed)
		}
	}
	for r, err := range n.digested(ctx, d, after, size) {
		if err != nil {
			return page, err
		}
		if len(page.Notifications) > size {
			break
		}
		added, removed, err := n.clairNotifications(ctx, r)
		if err != nil {
			return page, err
		}
		if added != nil {
			page.Notifications = append(page.Notifications, *added)
		}
		if removed != nil {
			page.Notifications = append(page.Notifications, *removed)
		}
	}
	if len(page.Notifications) > size {
		page.Notifications = page.Notifications[:size]
		page.Page.Next = page.Notifications[size-1].ID
	}
	return page, nil
}

// clairCursor is the event after which a page goes on, and that event itself
// if only the first of its notifications has been returned.
func (n *Notifier) clairCursor(ctx context.Context, d *eventlog.Record, next string) (after uuid.UUID, rest *eventlog.Record, err error) {
	if next == "" {
		return uuid.Nil, nil, nil
	}
	refused := problem.Refuse(problem.Field{Field: "/next", Message: "is not the next of a page of this notification"})
	cursor, err := uuid.Parse(next)
	if err != nil {
		return uuid.Nil, nil, refused
	}
	err = n.Pool.QueryRow(ctx, eventOfNotification, pgx.NamedArgs{"id": cursor, "twin": twin(cursor), "change": d.Key.ChangeID}).Scan(&after)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil, refused
	}
	if err != nil {
		return uuid.Nil, nil, fmt.Errorf("notifier: read notification: %w", err)
	}
	if after != cursor {
		return after, nil, nil
	}
	list, err := n.Log.ByID(ctx, after)
	if err != nil || len(list) == 0 {
		return after, nil, err
	}
	return after, list[0], nil
}

// twin is the id of the notification of what was removed, beside the event's
// own for what was added; and the other way round.
func twin(id uuid.UUID) uuid.UUID {
	id[15] ^= 1
	return id
}

// clairNotifications are the up to two notifications of an event.
func (n *Notifier) clairNotifications(ctx context.Context, r *eventlog.Record) (added, removed *ClairNotification, err error) {
	data, err := n.Log.Whole(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	var worst *schemas.Finding
	if len(data.Added) > 0 {
		worst = &data.Added[0]
	}
	// Clair knows no revised findings: to it they are new ones.
	if len(data.Revised) > 0 {
		if f := &data.Revised[0].Finding; worst == nil || schemas.SeverityRank(f.NormalizedSeverity) > schemas.SeverityRank(worst.NormalizedSeverity) {
			worst = f
		}
	}
	if worst != nil {
		added = &ClairNotification{ID: r.ID, Manifest: r.Subject, Reason: "added", Vulnerability: clairVulnerability(worst)}
	}
	if len(data.Removed) > 0 {
		removed = &ClairNotification{ID: twin(r.UUID).String(), Manifest: r.Subject, Reason: "removed", Vulnerability: clairVulnerability(&data.Removed[0])}
	}
	return added, removed, nil
}

func clairVulnerability(f *schemas.Finding) ClairVulnerability {
	v := ClairVulnerability{
		Name: f.ID, FixedInVersion: f.FixedInVersion, Severity: f.NormalizedSeverity, Description: f.Description,
		Links: strings.Join(f.Links, " "), Package: clairPackage(&f.Package),
	}
	if d := f.Distribution; d != nil {
		v.Distribution = &ClairDistribution{
			DID: d.DID, Name: d.Name, Version: d.Version, VersionCodeName: d.VersionCodeName, VersionID: d.VersionID,
			Arch: d.Arch, CPE: d.CPE, PrettyName: d.PrettyName,
		}
	}
	if r := f.Repository; r != nil {
		v.Repo = &ClairRepository{Name: r.Name, Key: r.Key, URI: r.URI, CPE: r.CPE}
	}
	return v
}

func clairPackage(p *schemas.Package) *ClairPackage {
	if p == nil {
		return nil
	}
	return &ClairPackage{Name: p.Name, Version: p.Version, Kind: p.Kind, Module: p.Module, Arch: p.Arch, Source: clairPackage(p.Source)}
}

// DeleteNotification empties a notification for good. One that there is not is
// ErrNotFound; one that was deleted before is deleted.
func (n *Notifier) DeleteNotification(ctx context.Context, id uuid.UUID) error {
	if _, err := n.digestRecord(ctx, id); err != nil {
		return err
	}
	if _, err := n.Pool.Exec(ctx, deleteNotification, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("notifier: delete notification: %w", err)
	}
	return nil
}
