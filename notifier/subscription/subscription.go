package subscription

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

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

const insertSubscription = `
INSERT INTO tocsin.subscription (id, owner, key, key_digest, spec, state)
VALUES (@id, @owner, NULLIF(@key, ''), @digest, @spec, @state)
ON CONFLICT (owner, key) WHERE key IS NOT NULL AND deleted_at IS NULL DO NOTHING`

const subscriptionByKey = `
SELECT id, key_digest FROM tocsin.subscription WHERE owner = @owner AND key = @key AND deleted_at IS NULL`

// Create stores a subscription for an owner. A webhook without a secret gets
// one, which is in this answer alone. With a Key that the owner has used before
// it answers the subscription created then, without its secret, and false; if
// that was created from another object, secrets aside, it is a
// [problem.Conflict]. An object that is not valid is [problem.Invalid], with
// every field that is wrong.
func (st *Store) Create(ctx context.Context, owner string, spec schemas.Subscription) (schemas.Subscription, bool, error) {
	var none schemas.Subscription
	if st.Keyring == nil {
		return none, false, fmt.Errorf("notifier: no key to seal secrets with")
	}
	spec.Protocol = st.protocolOf(spec)
	if fields := st.validate(&spec); len(fields) > 0 {
		return none, false, problem.Refuse(fields...)
	}
	id := uuid7.New()
	sign, made, err := signingFor(spec)
	if err != nil {
		return none, false, err
	}
	digest := requestDigest(spec)
	existing := uuid.Nil
	err = pgx.BeginFunc(ctx, st.Pool, func(tx pgx.Tx) error {
		if err := st.room(ctx, tx, owner, spec.Key); err != nil {
			return err
		}
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
				return problem.New(problem.Conflict, "key %q was used for another subscription", clip(spec.Key))
			}
			return nil
		}
		if !sign.IsZero() {
			if err := st.insertSigning(ctx, tx, id, sign); err != nil {
				return err
			}
		}
		return st.insertCredential(ctx, tx, id, spec.SinkCredential)
	})
	if err != nil {
		return none, false, err
	}
	if existing != uuid.Nil {
		s, err := st.Get(ctx, owner, existing.String())
		return s, false, err
	}
	s, err := st.Get(ctx, owner, id.String())
	if err == nil && made {
		s.Secret = sign.Reveal()
	}
	return s, true, err
}

// signingFor is the signing secret of a new subscription: its own, a new one
// for a webhook, or none; and whether it was made.
func signingFor(spec schemas.Subscription) (s standardwebhooks.Key, made bool, err error) {
	switch {
	case spec.Secret != "":
		s, err = standardwebhooks.ParseSigning(spec.Secret)
		return s, false, err
	case spec.Protocol == schemas.ProtocolHTTP:
		s, err = standardwebhooks.Generate(standardwebhooks.KindHMAC)
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

func noSuch(id string) error {
	return problem.New(problem.NotFound, "subscription %s: not found", clip(id))
}

// one reads one subscription that the owner may see; "" sees all.
func one(ctx context.Context, db querier, query, owner, id string) (schemas.Subscription, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return schemas.Subscription{}, noSuch(id)
	}
	rows, err := db.Query(ctx, query, pgx.NamedArgs{"id": u, "owner": owner})
	if err != nil {
		return schemas.Subscription{}, fmt.Errorf("notifier: read subscription: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanSubscription)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, noSuch(id)
	}
	if err != nil {
		return s, fmt.Errorf("notifier: read subscription: %w", err)
	}
	return s, nil
}

// Get returns a subscription that the owner may see, any if owner is "", else
// [problem.NotFound].
func (st *Store) Get(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	s, err := one(ctx, st.Pool, subscriptionByID, owner, id)
	if err != nil {
		return s, err
	}
	list := []schemas.Subscription{s}
	err = st.describe(ctx, list)
	return list[0], err
}

// Bounds of a page: at most maxPage subscriptions, defaultPage if no number is
// asked for.
const (
	maxPage     = 1000
	defaultPage = 50
)

// List returns a page of the subscriptions that the owner may see, of all if
// owner is "", oldest first; and the cursor of the next page, "" after the last.
func (st *Store) List(ctx context.Context, owner, cursor string, limit int) (list []schemas.Subscription, next string, err error) {
	after := uuid.Nil
	if cursor != "" {
		if after, err = uuid.Parse(cursor); err != nil {
			return nil, "", problem.Refuse(problem.Field{Field: "/cursor", Message: "is not a cursor of this list"})
		}
	}
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	rows, err := st.Pool.Query(ctx, listSubscriptions, pgx.NamedArgs{"owner": owner, "after": after, "limit": limit + 1})
	if err != nil {
		return nil, "", fmt.Errorf("notifier: list subscriptions: %w", err)
	}
	if list, err = pgx.CollectRows(rows, scanSubscription); err != nil {
		return nil, "", fmt.Errorf("notifier: list subscriptions: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].ID
	}
	if err := st.describe(ctx, list); err != nil {
		return nil, "", err
	}
	return list, next, nil
}

// describe adds to subscriptions what their secrets are, without the secrets
// themselves, and whether deliveries wait because a secret can't be decrypted.
func (st *Store) describe(ctx context.Context, list []schemas.Subscription) error {
	ids := make([]uuid.UUID, len(list))
	for i, s := range list {
		ids[i] = uuid.MustParse(s.ID)
	}
	infos, err := st.secretInfos(ctx, ids)
	if err != nil {
		return err
	}
	keys, err := keysOf(ctx, st.Pool, ids)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Secrets = infos[ids[i]]
		st.admit(&list[i], keys[ids[i]])
	}
	return nil
}

const replaceSubscription = `
UPDATE tocsin.subscription SET spec = @spec, version = version + 1,
  state = CASE WHEN state = 'disabled' THEN state ELSE @state END
WHERE id = @id`

// Replace puts a new object in a subscription's place. A Version that is not 0
// must be the present one, else it is a [problem.Conflict]. Secrets are
// write-only, so an object that comes without them keeps them: a sinkcredential
// of the same type and identifier without its secret keeps the stored one,
// unless the sink's host changes; without a sinkcredential the stored one is
// deleted. A Secret replaces all signing secrets at once; [Store.Rotate] lets
// them overlap. A disabled subscription stays disabled until it is resumed.
func (st *Store) Replace(ctx context.Context, owner, id string, spec schemas.Subscription) (schemas.Subscription, error) {
	spec.Protocol = st.protocolOf(spec)
	err := pgx.BeginFunc(ctx, st.Pool, func(tx pgx.Tx) error {
		old, err := one(ctx, tx, subscriptionForUpdate, owner, id)
		if err != nil {
			return err
		}
		if spec.Version != 0 && spec.Version != old.Version {
			return problem.New(problem.Conflict, "subscription %s is at version %d, not %d; read it again", id, old.Version, spec.Version)
		}
		sid := uuid.MustParse(old.ID)
		kept, err := st.keepCredential(ctx, tx, sid, old, &spec)
		if err != nil {
			return err
		}
		if fields := append(kept, st.validate(&spec)...); len(fields) > 0 {
			return problem.Refuse(fields...)
		}
		if _, err := tx.Exec(ctx, deleteCredential, pgx.NamedArgs{"id": sid}); err != nil {
			return fmt.Errorf("notifier: replace credential: %w", err)
		}
		if err := st.insertCredential(ctx, tx, sid, spec.SinkCredential); err != nil {
			return err
		}
		if err := st.replaceSigning(ctx, tx, sid, old, spec); err != nil {
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
	st.wake()
	return st.Get(ctx, owner, id)
}

// protocolOf is a subscription's protocol, which its sink's scheme implies.
func (st *Store) protocolOf(spec schemas.Subscription) string {
	if spec.Protocol == "" && st.Sinks != nil {
		return st.Sinks.ProtocolOf(spec.Sink)
	}
	return strings.ToUpper(spec.Protocol)
}

// keepCredential fills in the stored secrets that the client could not send
// back because it never saw them.
func (st *Store) keepCredential(ctx context.Context, tx pgx.Tx, id uuid.UUID, old schemas.Subscription, spec *schemas.Subscription) ([]problem.Field, error) {
	c := spec.SinkCredential
	if c == nil || old.SinkCredential == nil || c.Secret != "" || c.AccessToken != "" || c.Key != "" ||
		c.CredentialType != old.SinkCredential.CredentialType || c.Identifier != old.SinkCredential.Identifier {
		return nil, nil
	}
	if !sameSinks(old, *spec) {
		return []problem.Field{{Field: "/sinkcredential", Message: "has to be given again in full", Hint: "the sink changed, and a stored secret is not sent elsewhere"}}, nil
	}
	stored, err := st.credential(ctx, tx, id)
	if lostKey(err) {
		return []problem.Field{{Field: "/sinkcredential", Message: "has to be given again in full", Hint: "the key that sealed the stored one is not configured"}}, nil
	}
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

// Delete deletes a subscription and its secrets. Its pending deliveries are
// dropped.
func (st *Store) Delete(ctx context.Context, owner, id string) error {
	u, err := uuid.Parse(id)
	if err != nil {
		return noSuch(id)
	}
	return pgx.BeginFunc(ctx, st.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteSubscription, pgx.NamedArgs{"id": u, "owner": owner})
		if err != nil {
			return fmt.Errorf("notifier: delete subscription: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return noSuch(id)
		}
		if _, err := tx.Exec(ctx, deleteSecrets, pgx.NamedArgs{"id": u}); err != nil {
			return fmt.Errorf("notifier: delete secrets: %w", err)
		}
		return nil
	})
}
