package subscription

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/internal/standardwebhooks"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

// kindCredential is the kind of a sealed SinkCredential.
const kindCredential = "credential"

// maxSecrets is how many signing secrets of a subscription may overlap.
const maxSecrets = 8

const insertSecret = `
INSERT INTO tocsin.secret (id, subscription_id, kind, public_key, key_id, sealed)
VALUES (@id, @subscription, @kind, @public, @key_id, @sealed)`

const deleteSecrets = `DELETE FROM tocsin.secret WHERE subscription_id = @id`

const deleteCredential = `DELETE FROM tocsin.secret WHERE subscription_id = @id AND kind = 'credential'`

const deleteSigning = `DELETE FROM tocsin.secret WHERE subscription_id = @id AND kind <> 'credential'`

// sealContext ties a sealed secret to its row.
func sealContext(subscription, id uuid.UUID, kind string) string {
	return "subscription " + subscription.String() + " secret " + id.String() + " kind " + kind
}

func (v vault) seal(ctx context.Context, tx pgx.Tx, subscription uuid.UUID, kind, public string, text []byte) error {
	if v.keyring == nil {
		return fmt.Errorf("notifier: no key to seal secrets with")
	}
	id := uuid7.New()
	sealed := v.keyring.Seal(text, sealContext(subscription, id, kind))
	_, err := tx.Exec(ctx, insertSecret, pgx.NamedArgs{
		"id": id, "subscription": subscription, "kind": kind, "public": public, "key_id": sealed.KeyID, "sealed": sealed.Box,
	})
	if err != nil {
		return fmt.Errorf("notifier: store a secret: %w", err)
	}
	return nil
}

func (v vault) insertSigning(ctx context.Context, tx pgx.Tx, subscription uuid.UUID, s standardwebhooks.Key) error {
	return v.seal(ctx, tx, subscription, s.Kind(), s.Public(), []byte(s.Reveal()))
}

func (v vault) insertCredential(ctx context.Context, tx pgx.Tx, subscription uuid.UUID, c *schemas.SinkCredential) error {
	if c == nil {
		return nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("notifier: credential: %w", err)
	}
	return v.seal(ctx, tx, subscription, kindCredential, "", text)
}

// replaceSigning gives the subscription the signing secret that a replacement
// brings, or a first one if it has become a webhook; else it changes nothing.
func (v vault) replaceSigning(ctx context.Context, tx pgx.Tx, id uuid.UUID, old, spec schemas.Subscription) error {
	if spec.Secret == "" && spec.Protocol == old.Protocol {
		return nil
	}
	if _, err := tx.Exec(ctx, deleteSigning, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("notifier: replace signing secrets: %w", err)
	}
	s, _, err := signingFor(spec)
	if err != nil || s.IsZero() {
		return err
	}
	return v.insertSigning(ctx, tx, id, s)
}

const infoOfSecrets = `
SELECT subscription_id, id, kind, public_key, created_at, expires_at FROM tocsin.secret
WHERE subscription_id = ANY(@ids) AND kind <> 'credential' AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY id DESC`

// secretInfos is what may be shown of the signing secrets.
func (st *Store) secretInfos(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID][]schemas.SecretInfo, error) {
	rows, err := st.Pool.Query(ctx, infoOfSecrets, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("notifier: read secrets: %w", err)
	}
	out := map[uuid.UUID][]schemas.SecretInfo{}
	var (
		owner, id uuid.UUID
		info      schemas.SecretInfo
	)
	_, err = pgx.ForEachRow(rows, []any{&owner, &id, &info.Kind, &info.PublicKey, &info.CreatedAt, &info.ExpiresAt}, func() error {
		one := info
		one.ID, one.CreatedAt = id.String(), info.CreatedAt.UTC()
		if info.ExpiresAt != nil {
			one.ExpiresAt = new(info.ExpiresAt.UTC())
		}
		info.ExpiresAt = nil
		out[owner] = append(out[owner], one)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("notifier: read secrets: %w", err)
	}
	return out, nil
}

// Rotation asks for a new signing secret.
type Rotation struct {
	Secret  string        `json:"secret,omitempty"` // the new one; made if empty
	Kind    string        `json:"kind,omitempty"`   // of one to be made: v1 (default) or v1a
	Overlap time.Duration `json:"-"`                // how long the old ones go on signing beside it
}

const (
	expireSigning = `
UPDATE tocsin.secret SET expires_at = LEAST(expires_at, clock_timestamp() + @overlap)
WHERE subscription_id = @id AND kind <> 'credential'`

	purgeSigning = `
DELETE FROM tocsin.secret WHERE subscription_id = @id AND kind <> 'credential' AND expires_at <= clock_timestamp()`

	countSigning = `SELECT count(*) FROM tocsin.secret WHERE subscription_id = @id AND kind <> 'credential'`

	touchSubscription = `UPDATE tocsin.subscription SET version = version + 1 WHERE id = @id`
)

// Rotate gives a webhook a new signing secret beside the old ones, which
// sign too until the overlap ends, at most 30 days. One that was made is in
// this answer alone. Old ones that no configured key opens are removed at once:
// so a subscription whose key is lost is delivered to again.
func (st *Store) Rotate(ctx context.Context, owner, id string, r Rotation) (schemas.Subscription, error) {
	var sign standardwebhooks.Key
	var err error
	c := &checker{}
	if r.Secret != "" {
		if sign, err = standardwebhooks.ParseSigning(r.Secret); err != nil {
			c.refuse("/secret", standardwebhooks.Hint, "%s", err)
		}
	} else if r.Kind != "" && r.Kind != standardwebhooks.KindHMAC && r.Kind != standardwebhooks.KindEd25519 {
		c.refuse("/kind", "v1 or v1a", "is %q", clip(r.Kind))
	} else if sign, err = standardwebhooks.Generate(r.Kind); err != nil {
		return schemas.Subscription{}, fmt.Errorf("notifier: make a secret: %w", err)
	}
	if r.Overlap < 0 || r.Overlap > 30*24*time.Hour {
		c.refuse("/overlap_seconds", "0 to 2592000", "is %d", int64(r.Overlap/time.Second))
	}
	if len(c.fields) > 0 {
		return schemas.Subscription{}, problem.Refuse(c.fields...)
	}
	err = pgx.BeginFunc(ctx, st.Pool, func(tx pgx.Tx) error {
		s, err := one(ctx, tx, subscriptionForUpdate, owner, id)
		if err != nil {
			return err
		}
		if s.Protocol != schemas.ProtocolHTTP {
			return problem.Refuse(problem.Field{Field: "/secret", Message: "only webhooks are signed"})
		}
		sid := uuid.MustParse(s.ID)
		if _, err := tx.Exec(ctx, expireSigning, pgx.NamedArgs{"id": sid, "overlap": r.Overlap}); err != nil {
			return fmt.Errorf("notifier: expire signing secrets: %w", err)
		}
		if _, err := tx.Exec(ctx, purgeSigning, pgx.NamedArgs{"id": sid}); err != nil {
			return fmt.Errorf("notifier: purge signing secrets: %w", err)
		}
		if err := st.forgetUnreadable(ctx, tx, sid); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, countSigning, pgx.NamedArgs{"id": sid}).Scan(&n); err != nil {
			return fmt.Errorf("notifier: count signing secrets: %w", err)
		}
		if n >= maxSecrets {
			return problem.New(problem.Conflict, "%d secrets overlap already; rotate with a shorter overlap", n)
		}
		if err := st.insertSigning(ctx, tx, sid, sign); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, touchSubscription, pgx.NamedArgs{"id": sid}); err != nil {
			return fmt.Errorf("notifier: rotate: %w", err)
		}
		return nil
	})
	if err != nil {
		return schemas.Subscription{}, err
	}
	s, err := st.Get(ctx, owner, id)
	if err == nil && r.Secret == "" {
		s.Secret = sign.Reveal()
	}
	return s, err
}

const secretsOf = `
SELECT subscription_id, id, kind, key_id, sealed, expires_at FROM tocsin.secret
WHERE subscription_id = ANY(@ids) AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY id DESC`

// storedSecret is one row of the table of secrets.
type storedSecret struct {
	subscription, id uuid.UUID
	kind             string
	sealed           secrets.Sealed
	expires          *time.Time
}

func scanSecret(row pgx.CollectableRow) (s storedSecret, err error) {
	err = row.Scan(&s.subscription, &s.id, &s.kind, &s.sealed.KeyID, &s.sealed.Box, &s.expires)
	return s, err
}

func (v vault) open(s storedSecret) ([]byte, error) {
	if v.keyring == nil {
		return nil, fmt.Errorf("notifier: no key to open secrets with")
	}
	return v.keyring.Open(s.sealed, sealContext(s.subscription, s.id, s.kind))
}

// credential is a subscription's credential in clear, nil if it has none.
func (v vault) credential(ctx context.Context, db querier, id uuid.UUID) (*schemas.SinkCredential, error) {
	list, err := readSecrets(ctx, db, []uuid.UUID{id})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(s storedSecret) bool { return s.kind == kindCredential })
	if i < 0 {
		return nil, nil
	}
	text, err := v.open(list[i])
	if err != nil {
		return nil, fmt.Errorf("notifier: credential of subscription %s: %w", id, err)
	}
	var c schemas.SinkCredential
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("notifier: credential of subscription %s can't be read", id)
	}
	return &c, nil
}

func readSecrets(ctx context.Context, db querier, ids []uuid.UUID) ([]storedSecret, error) {
	rows, err := db.Query(ctx, secretsOf, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("notifier: read secrets: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanSecret)
	if err != nil {
		return nil, fmt.Errorf("notifier: read secrets: %w", err)
	}
	return list, nil
}

const targetsOf = `SELECT ` + subscriptionColumns + ` FROM tocsin.subscription WHERE id = ANY(@ids) AND deleted_at IS NULL`

// Targets returns those of the subscriptions that exist, with their credentials
// in clear. One whose credentials can't be decrypted is returned as paused, with
// the reason, so that none of its deliveries is lost or sent unsigned.
func (st *Store) Targets(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]schemas.Target, error) {
	rows, err := st.Pool.Query(ctx, targetsOf, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("notifier: read targets: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanSubscription)
	if err != nil {
		return nil, fmt.Errorf("notifier: read targets: %w", err)
	}
	sealed, err := readSecrets(ctx, st.Pool, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[uuid.UUID]schemas.Target, len(list))
	for _, s := range list {
		out[uuid.MustParse(s.ID)] = schemas.Target{Subscription: s}
	}
	for _, one := range sealed {
		t, ok := out[one.subscription]
		if !ok {
			continue
		}
		text, err := st.open(one)
		if err == nil && one.kind == kindCredential {
			t.Credential = &schemas.SinkCredential{}
			err = json.Unmarshal(text, t.Credential)
		} else if err == nil {
			t.SigningSecrets = append(t.SigningSecrets, string(text))
			if one.expires != nil {
				if t.SigningUntil == nil {
					t.SigningUntil = map[string]time.Time{}
				}
				t.SigningUntil[string(text)] = *one.expires
			}
		}
		if err != nil {
			st.Logger.ErrorContext(ctx, "a subscription's secrets can't be opened; its deliveries wait", "subscription", one.subscription, "reason", err)
			t.Subscription.State, t.Subscription.Reason = schemas.StatePaused, "its secrets can't be opened: "+err.Error()
			if lostKey(err) {
				t.Subscription.Reason = unreadable(one.sealed.KeyID)
			}
		}
		out[one.subscription] = t
	}
	return out, nil
}
