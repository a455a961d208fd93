package notifier

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const insertSubscription = `
INSERT INTO tocsin.subscription (id, owner, key, key_digest, spec, state)
VALUES (@id, @owner, NULLIF(@key, ''), @digest, @spec, @state)
ON CONFLICT (owner, key) WHERE key IS NOT NULL AND deleted_at IS NULL DO NOTHING`

const subscriptionByKey = `
SELECT id, key_digest FROM tocsin.subscription WHERE owner = @owner AND key = @key AND deleted_at IS NULL`

// CreateSubscription stores a subscription for an owner. A webhook without a
// secret gets one, which is in this answer alone. With a Key that the owner
// has used before it answers the subscription of then, without its secret, and
// false; if that was created from another object, its secrets aside,
// ErrConflict. What is wrong
// with the object it returns as an *Error.
func (l *Log) CreateSubscription(ctx context.Context, owner string, spec schemas.Subscription) (schemas.Subscription, bool, error) {
	var none schemas.Subscription
	if l.Keyring == nil {
		return none, false, fmt.Errorf("notifier: no key to seal secrets with")
	}
	spec.Protocol = strings.ToUpper(spec.Protocol)
	if spec.Protocol == "" {
		spec.Protocol = ProtocolOf(spec.Sink)
	}
	if fields := l.validate(&spec); len(fields) > 0 {
		return none, false, &Error{Fields: fields}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return none, false, fmt.Errorf("notifier: subscription id: %w", err)
	}
	sign, made, err := signingFor(spec)
	if err != nil {
		return none, false, err
	}
	digest := requestDigest(spec)
	existing := uuid.Nil
	err = pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insertSubscription, pgx.NamedArgs{
			"id": id, "owner": owner, "key": spec.Key, "digest": digest, "spec": stripped(spec), "state": stateOf(spec.Config.Paused),
		})
		if err != nil {
			return fmt.Errorf("notifier: store subscription: %w", err)
		}
		if tag.RowsAffected() == 0 {
			var before []byte
			err := tx.QueryRow(ctx, subscriptionByKey, pgx.NamedArgs{"owner": owner, "key": spec.Key}).Scan(&existing, &before)
			if err != nil {
				return fmt.Errorf("notifier: read subscription by key: %w", err)
			}
			if !bytes.Equal(before, digest) {
				return fmt.Errorf("key %q was used for another subscription: %w", clip(spec.Key), ErrConflict)
			}
			return nil
		}
		if sign.text != "" {
			if err := l.insertSigning(ctx, tx, id, sign); err != nil {
				return err
			}
		}
		return l.insertCredential(ctx, tx, id, spec.SinkCredential)
	})
	if err != nil {
		return none, false, err
	}
	if existing != uuid.Nil {
		s, err := l.GetSubscription(ctx, owner, existing.String())
		return s, false, err
	}
	s, err := l.GetSubscription(ctx, owner, id.String())
	if err == nil && made {
		s.Secret = sign.text
	}
	return s, true, err
}

// signingFor is the signing secret of a new subscription: its own, a new one
// for a webhook, or none; and whether it was made.
func signingFor(spec schemas.Subscription) (s signing, made bool, err error) {
	switch {
	case spec.Secret != "":
		s, err = parseSigningSecret(spec.Secret)
		return s, false, err
	case spec.Protocol == schemas.ProtocolHTTP:
		s, err = makeSigningSecret(KindHMAC)
		return s, true, err
	}
	return s, false, nil
}

func stateOf(paused bool) string {
	if paused {
		return schemas.StatePaused
	}
	return schemas.StateActive
}

// stripped is what of the object is stored as it is: no secrets, nothing that
// has a column.
func stripped(spec schemas.Subscription) schemas.Subscription {
	spec.ID, spec.Owner, spec.Key, spec.State, spec.Reason, spec.Secret, spec.Secrets = "", "", "", "", "", "", nil
	spec.Version, spec.CreatedAt, spec.UpdatedAt = 0, time.Time{}, time.Time{}
	spec.Config.Paused = false
	if c := spec.SinkCredential; c != nil {
		spec.SinkCredential = &schemas.SinkCredential{CredentialType: c.CredentialType, Identifier: c.Identifier, Certificate: c.Certificate}
	}
	return spec
}

// requestDigest tells two creations with one key apart. Secrets do not go into
// it: a digest of a password is a way to guess it.
func requestDigest(spec schemas.Subscription) []byte {
	text, _ := json.Marshal(stripped(spec)) // maps of strings have one form
	sum := sha256.Sum256(text)
	return sum[:]
}

const subscriptionColumns = `id, owner, COALESCE(key, ''), spec, state, reason, version, created_at, updated_at`

const subscriptionByID = `
SELECT ` + subscriptionColumns + ` FROM tocsin.subscription
WHERE id = @id AND deleted_at IS NULL AND (@owner = '' OR owner = @owner)`

const subscriptionForUpdate = subscriptionByID + ` FOR UPDATE`

const listSubscriptions = `
SELECT ` + subscriptionColumns + ` FROM tocsin.subscription
WHERE deleted_at IS NULL AND (@owner = '' OR owner = @owner) AND id > @after ORDER BY id LIMIT @limit`

func scanSubscription(row pgx.CollectableRow) (schemas.Subscription, error) {
	var (
		s                         schemas.Subscription
		id                        uuid.UUID
		owner, key, state, reason string
		version                   int64
		created, updated          time.Time
	)
	if err := row.Scan(&id, &owner, &key, &s, &state, &reason, &version, &created, &updated); err != nil {
		return s, err
	}
	s.ID, s.Owner, s.Key, s.State, s.Reason, s.Version = id.String(), owner, key, state, reason, version
	s.CreatedAt, s.UpdatedAt = created.UTC(), updated.UTC()
	s.Config.Paused = state == schemas.StatePaused
	return s, nil
}

// one reads one subscription that the owner may see; "" sees all.
func one(ctx context.Context, db querier, query, owner, id string) (schemas.Subscription, error) {
	missing := fmt.Errorf("subscription %s: %w", clip(id), ErrNotFound)
	u, err := uuid.Parse(id)
	if err != nil {
		return schemas.Subscription{}, missing
	}
	rows, err := db.Query(ctx, query, pgx.NamedArgs{"id": u, "owner": owner})
	if err != nil {
		return schemas.Subscription{}, fmt.Errorf("notifier: read subscription: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanSubscription)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, missing
	}
	if err != nil {
		return s, fmt.Errorf("notifier: read subscription: %w", err)
	}
	return s, nil
}

// GetSubscription returns a subscription that the owner may see, all of them
// if owner is "", else ErrNotFound.
func (l *Log) GetSubscription(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	s, err := one(ctx, l.Pool, subscriptionByID, owner, id)
	if err != nil {
		return s, err
	}
	infos, err := l.secretInfos(ctx, []uuid.UUID{uuid.MustParse(s.ID)})
	s.Secrets = infos[uuid.MustParse(s.ID)]
	return s, err
}

// ListSubscriptions returns a page of the subscriptions that the owner may
// see, all of them if owner is "", oldest first.
func (l *Log) ListSubscriptions(ctx context.Context, owner, cursor string, limit int) (Page[schemas.Subscription], error) {
	page := Page[schemas.Subscription]{Items: []schemas.Subscription{}}
	after := uuid.Nil
	if cursor != "" {
		var err error
		if after, err = uuid.Parse(cursor); err != nil {
			return page, &Error{Fields: []FieldError{{Pointer: "/cursor", Detail: "is not a cursor of this list"}}}
		}
	}
	limit = pageSize(limit)
	rows, err := l.Pool.Query(ctx, listSubscriptions, pgx.NamedArgs{"owner": owner, "after": after, "limit": limit + 1})
	if err != nil {
		return page, fmt.Errorf("notifier: list subscriptions: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanSubscription)
	if err != nil {
		return page, fmt.Errorf("notifier: list subscriptions: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		page.Next = list[limit-1].ID
	}
	ids := make([]uuid.UUID, len(list))
	for i, s := range list {
		ids[i] = uuid.MustParse(s.ID)
	}
	infos, err := l.secretInfos(ctx, ids)
	if err != nil {
		return page, err
	}
	for i := range list {
		list[i].Secrets = infos[ids[i]]
	}
	page.Items = append(page.Items, list...)
	return page, nil
}

const replaceSubscription = `
UPDATE tocsin.subscription SET spec = @spec, version = version + 1,
  state = CASE WHEN state = 'disabled' THEN state ELSE @state END
WHERE id = @id`

// ReplaceSubscription puts a new object in a subscription's place. A Version
// that is not 0 must be the present one, else ErrConflict. Secrets are
// write-only, so what comes without them keeps them: a sinkcredential of the
// same type and identifier without its secret keeps the stored one, unless the
// sink's host changes; without sinkcredential there is none any more. A Secret
// takes the place of all signing secrets at once; RotateSecret lets them
// overlap. A disabled subscription stays disabled until it is resumed.
func (l *Log) ReplaceSubscription(ctx context.Context, owner, id string, spec schemas.Subscription) (schemas.Subscription, error) {
	spec.Protocol = strings.ToUpper(spec.Protocol)
	if spec.Protocol == "" {
		spec.Protocol = ProtocolOf(spec.Sink)
	}
	err := pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		old, err := one(ctx, tx, subscriptionForUpdate, owner, id)
		if err != nil {
			return err
		}
		if spec.Version != 0 && spec.Version != old.Version {
			return fmt.Errorf("subscription %s is at version %d, not %d; read it again: %w", id, old.Version, spec.Version, ErrConflict)
		}
		sid := uuid.MustParse(old.ID)
		kept, err := l.keepCredential(ctx, tx, sid, old, &spec)
		if err != nil {
			return err
		}
		if fields := append(kept, l.validate(&spec)...); len(fields) > 0 {
			return &Error{Fields: fields}
		}
		if _, err := tx.Exec(ctx, deleteCredential, pgx.NamedArgs{"id": sid}); err != nil {
			return fmt.Errorf("notifier: replace credential: %w", err)
		}
		if err := l.insertCredential(ctx, tx, sid, spec.SinkCredential); err != nil {
			return err
		}
		if err := l.replaceSigning(ctx, tx, sid, old, spec); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, replaceSubscription, pgx.NamedArgs{"id": sid, "spec": stripped(spec), "state": stateOf(spec.Config.Paused)})
		if err != nil {
			return fmt.Errorf("notifier: replace subscription: %w", err)
		}
		return nil
	})
	if err != nil {
		return schemas.Subscription{}, err
	}
	l.wakeDelivery()
	return l.GetSubscription(ctx, owner, id)
}

// keepCredential fills in the stored secrets that the client could not send
// back because it never saw them.
func (l *Log) keepCredential(ctx context.Context, tx pgx.Tx, id uuid.UUID, old schemas.Subscription, spec *schemas.Subscription) ([]FieldError, error) {
	c := spec.SinkCredential
	if c == nil || old.SinkCredential == nil || c.Secret != "" || c.AccessToken != "" || c.Key != "" ||
		c.CredentialType != old.SinkCredential.CredentialType || c.Identifier != old.SinkCredential.Identifier {
		return nil, nil
	}
	if !sameSinks(old, *spec) {
		return []FieldError{{Pointer: "/sinkcredential", Detail: "has to be given again in full", Hint: "the sink changed, and a stored secret is not sent elsewhere"}}, nil
	}
	stored, err := l.credential(ctx, tx, id)
	if err != nil || stored == nil {
		return nil, err
	}
	merged := *stored
	merged.Certificate = cmp.Or(c.Certificate, stored.Certificate)
	spec.SinkCredential = &merged
	return nil, nil
}

// sameSinks says whether all hosts that one subscription names, another names
// too, by the same scheme.
func sameSinks(old, spec schemas.Subscription) bool {
	at := func(sink string) string {
		u, err := url.Parse(sink)
		if err != nil {
			return ""
		}
		return u.Scheme + "://" + strings.ToLower(u.Host)
	}
	known := []string{at(old.Sink)}
	for _, f := range old.ProtocolSettings.Failover {
		known = append(known, at(f))
	}
	for _, sink := range append([]string{spec.Sink}, spec.ProtocolSettings.Failover...) {
		if !slices.Contains(known, at(sink)) {
			return false
		}
	}
	return spec.ProtocolSettings.CA == old.ProtocolSettings.CA && spec.ProtocolSettings.ServerName == old.ProtocolSettings.ServerName
}

const deleteSubscription = `
UPDATE tocsin.subscription SET deleted_at = clock_timestamp(), version = version + 1
WHERE id = @id AND deleted_at IS NULL AND (@owner = '' OR owner = @owner)`

// DeleteSubscription deletes a subscription and its secrets. What it was still
// owed is dropped.
func (l *Log) DeleteSubscription(ctx context.Context, owner, id string) error {
	u, err := uuid.Parse(id)
	if err != nil {
		return fmt.Errorf("subscription %s: %w", clip(id), ErrNotFound)
	}
	return pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteSubscription, pgx.NamedArgs{"id": u, "owner": owner})
		if err != nil {
			return fmt.Errorf("notifier: delete subscription: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("subscription %s: %w", id, ErrNotFound)
		}
		if _, err := tx.Exec(ctx, deleteSecrets, pgx.NamedArgs{"id": u}); err != nil {
			return fmt.Errorf("notifier: delete secrets: %w", err)
		}
		return nil
	})
}

// compiled is a stored subscription, compiled.
func (l *Log) compiled(ctx context.Context, id uuid.UUID) (*subscriber, error) {
	spec, err := one(ctx, l.Pool, subscriptionByID, "", id.String())
	if err != nil {
		return nil, err
	}
	s, problems := l.subscriber(id, stripped(spec), nil)
	if problems != nil {
		return nil, fmt.Errorf("notifier: the filters of subscription %s do not compile: %s", id, problems[0].Detail)
	}
	return s, nil
}
