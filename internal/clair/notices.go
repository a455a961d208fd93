package clair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/schemas"
)

// notices is a [Notifications].
type notices struct{ notifier *notifier.Notifier }

// Notices are Clair's notifications from Tocsin's event log.
func Notices(n *notifier.Notifier) Notifications { return notices{n} }

func (s notices) Page(ctx context.Context, id, after uuid.UUID, limit int) ([]Notification, bool, error) {
	changes, more, err := s.notifier.Notification(ctx, id, after, limit)
	if err == nil && len(changes) == 0 {
		return s.left(ctx, id, after, limit)
	}
	if err != nil {
		return nil, false, err
	}
	out := make([]Notification, len(changes))
	for i := range changes {
		out[i] = fromChange(&changes[i])
	}
	return out, more, nil
}

// NotificationJSON reads notifications as the API answers them, for those who
// send them on.
func NotificationJSON(n Notifications) func(ctx context.Context, id, after uuid.UUID, limit int) ([]json.RawMessage, uuid.UUID, bool, error) {
	return func(ctx context.Context, id, after uuid.UUID, limit int) ([]json.RawMessage, uuid.UUID, bool, error) {
		list, more, err := n.Page(ctx, id, after, limit)
		if err != nil {
			return nil, after, false, err
		}
		out := make([]json.RawMessage, len(list))
		for i := range list {
			if out[i], err = json.Marshal(&list[i]); err != nil {
				return nil, after, false, fmt.Errorf("notification %s: %w", id, err)
			}
			after = list[i].ID
		}
		return out, after, more, nil
	}
}

// left is a page of a notification that Clair's own notifier made before its
// database was taken over.
func (s notices) left(ctx context.Context, id, after uuid.UUID, limit int) ([]Notification, bool, error) {
	changes, more, err := s.notifier.ClairNotification(ctx, id, after, limit)
	if err != nil {
		return nil, false, err
	}
	out := make([]Notification, len(changes))
	for i, c := range changes {
		if err := json.Unmarshal(c.Body, &out[i]); err != nil {
			return nil, false, fmt.Errorf("notification %s of Clair's: %w", id, err)
		}
		out[i].ID = c.ID
		v := &out[i].Vulnerability
		v.NormalizedSeverity = v.Severity
	}
	return out, more, nil
}

func (s notices) Delete(ctx context.Context, owner string, id uuid.UUID) error {
	err := s.notifier.DeleteNotification(ctx, owner, id)
	if errors.Is(err, problem.NotFound) {
		return errors.Join(ErrNotFound, err)
	}
	return err
}

func fromChange(c *notifier.ManifestChange) Notification {
	f := &c.Worst
	out := Notification{ID: c.ID, Manifest: c.Manifest, Reason: c.Reason, Vulnerability: VulnerabilitySummary{
		Name: f.ID, Description: f.Description, Package: fromFoundPackage(&f.Package), Severity: f.NormalizedSeverity,
		NormalizedSeverity: f.NormalizedSeverity,
		FixedInVersion:     f.FixedInVersion, Links: strings.Join(f.Links, " "),
	}}
	if d := f.Distribution; d != nil {
		out.Vulnerability.Distribution = &SummaryDistribution{
			DID: d.DID, Name: d.Name, Version: d.Version, VersionCodeName: d.VersionCodeName, VersionID: d.VersionID,
			Arch: d.Arch, CPE: d.CPE, PrettyName: d.PrettyName,
		}
	}
	if r := f.Repository; r != nil {
		out.Vulnerability.Repository = &SummaryRepository{Name: r.Name, Key: r.Key, URI: r.URI, CPE: r.CPE}
	}
	return out
}

func fromFoundPackage(p *schemas.Package) *pkg {
	if p == nil {
		return nil
	}
	return &pkg{Name: p.Name, Version: p.Version, Kind: p.Kind, Module: p.Module, Arch: p.Arch, Source: fromFoundPackage(p.Source)}
}
