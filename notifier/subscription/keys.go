package subscription

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/schemas"
)

// MissingKey is a key that sealed secrets of subscriptions and is not in a keyring.
type MissingKey struct {
	ID            string // says nothing of the key itself
	Subscriptions int    // whose deliveries wait for it
}

const missingKeys = `
SELECT key_id, count(DISTINCT subscription_id) FROM tocsin.secret
WHERE NOT key_id = ANY(@have) AND (expires_at IS NULL OR expires_at > clock_timestamp())
GROUP BY key_id ORDER BY 2 DESC, 1`

// MissingKeys are the keys that secrets in the database are sealed with, other
// than those in have.
func MissingKeys(ctx context.Context, db querier, have []string) ([]MissingKey, error) {
	rows, err := db.Query(ctx, missingKeys, pgx.NamedArgs{"have": append([]string{}, have...)})
	if err != nil {
		return nil, fmt.Errorf("subscription: look for secrets that can't be read: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[MissingKey])
	if err != nil {
		return nil, fmt.Errorf("subscription: look for secrets that can't be read: %w", err)
	}
	return list, nil
}

// unreadable is why a subscription with a secret under this key is not
// delivered to, and what to do about it.
func unreadable(key string) string {
	return "its secrets can't be opened: sealed with key " + key + ", which is not configured; put it into secrets.keys, " +
		"or, if it is lost, rotate the signing secret and give the sinkcredential again"
}

// admit marks the subscription as waiting if some of its secrets, whose keys
// these are, can't be opened: that is how it is delivered to, by every process
// with this keyring.
func (st *Store) admit(s *schemas.Subscription, keys []string) {
	if st.Keyring == nil || s.State != schemas.StateActive {
		return
	}
	if i := slices.IndexFunc(keys, func(id string) bool { return !st.Keyring.Has(id) }); i >= 0 {
		s.State, s.Reason = schemas.StatePaused, unreadable(keys[i])
	}
}

const keysOfSecrets = `
SELECT subscription_id, key_id FROM tocsin.secret
WHERE subscription_id = ANY(@ids) AND (expires_at IS NULL OR expires_at > clock_timestamp())`

// keysOf are the keys that the secrets of subscriptions are sealed with.
func keysOf(ctx context.Context, db querier, ids []uuid.UUID) (map[uuid.UUID][]string, error) {
	rows, err := db.Query(ctx, keysOfSecrets, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("subscription: read the keys of secrets: %w", err)
	}
	out := map[uuid.UUID][]string{}
	var (
		id  uuid.UUID
		key string
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &key}, func() error {
		out[id] = append(out[id], key)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("subscription: read the keys of secrets: %w", err)
	}
	return out, nil
}

const purgeUnreadable = `
DELETE FROM tocsin.secret WHERE subscription_id = @id AND kind <> 'credential' AND NOT key_id = ANY(@have)`

// forgetUnreadable removes the signing secrets that no key of the keyring opens:
// they sign nothing, and hold deliveries up.
func (v vault) forgetUnreadable(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	if _, err := tx.Exec(ctx, purgeUnreadable, pgx.NamedArgs{"id": id, "have": v.keyring.IDs()}); err != nil {
		return fmt.Errorf("subscription: remove secrets that can't be read: %w", err)
	}
	return nil
}

const (
	staleSecrets = `
SELECT subscription_id, id, kind, key_id, sealed, expires_at FROM tocsin.secret
WHERE key_id = ANY(@others) ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED`

	resealSecret = `UPDATE tocsin.secret SET key_id = @key_id, sealed = @sealed WHERE id = @id`
)

// Reseal seals with the keyring's first key all secrets that another of its keys
// sealed, and says how many it changed. After it those keys can be taken out.
// What is sealed with a key that it has not stays as it is: [MissingKeys].
func (st *Store) Reseal(ctx context.Context) (int, error) {
	if st.Keyring == nil {
		return 0, fmt.Errorf("notifier: no key to seal secrets with")
	}
	others := slices.DeleteFunc(st.Keyring.IDs(), func(id string) bool { return id == st.Keyring.Primary() })
	total := 0
	for {
		n := 0
		err := pgx.BeginFunc(ctx, st.Pool, func(tx pgx.Tx) (err error) {
			n, err = st.resealSome(ctx, tx, others)
			return err
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}

func (v vault) resealSome(ctx context.Context, tx pgx.Tx, others []string) (int, error) {
	rows, err := tx.Query(ctx, staleSecrets, pgx.NamedArgs{"others": others})
	if err != nil {
		return 0, fmt.Errorf("notifier: read secrets: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanSecret)
	if err != nil {
		return 0, fmt.Errorf("notifier: read secrets: %w", err)
	}
	for _, s := range list {
		text, err := v.open(s)
		if err != nil {
			return 0, fmt.Errorf("notifier: reseal a secret of subscription %s: %w", s.subscription, err)
		}
		again := v.keyring.Seal(text, sealContext(s.subscription, s.id, s.kind))
		if _, err := tx.Exec(ctx, resealSecret, pgx.NamedArgs{"id": s.id, "key_id": again.KeyID, "sealed": again.Box}); err != nil {
			return 0, fmt.Errorf("notifier: reseal a secret: %w", err)
		}
	}
	return len(list), nil
}

// lostKey says whether err is that of a secret whose key is not configured.
func lostKey(err error) bool { return errors.Is(err, secrets.ErrUnknownKey) }
