package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// ErrUnknownKey is why a sealed value can't be opened: the keyring does not
// have the key that sealed it.
var ErrUnknownKey = errors.New("secrets: sealed with a key that is not configured")

// ErrTampered is why a sealed value can't be opened although its key is there:
// it was changed, or belongs elsewhere.
var ErrTampered = errors.New("secrets: the sealed value was changed or belongs elsewhere")

// Sealed is a secret at rest.
type Sealed struct {
	KeyID string
	Box   []byte // nonce, then ciphertext and tag
}

// Keyring seals and opens. It is safe for concurrent use and does not show its
// keys when printed or logged.
type Keyring struct {
	primary string
	keys    map[string]cipher.AEAD
}

// String implements fmt.Stringer without a key.
func (k *Keyring) String() string { return "keyring, sealing with key " + k.primary }

// GoString implements fmt.GoStringer without a key.
func (k *Keyring) GoString() string { return k.String() }

// LogValue implements slog.LogValuer without a key.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// New returns a keyring of these keys, each [KeySize] bytes. The first seals.
func New(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("secrets: a keyring needs at least one key")
	}
	k := &Keyring{keys: make(map[string]cipher.AEAD, len(keys))}
	for i, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("secrets: key %d has %d bytes, not %d", i+1, len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("secrets: key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("secrets: key %d: %w", i+1, err)
		}
		id := keyID(key)
		if i == 0 {
			k.primary = id
		}
		k.keys[id] = aead
	}
	return k, nil
}

// keyID names a key without saying anything of it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("tocsin key id\x00"), key...))
	return hex.EncodeToString(sum[:6])
}

// Parse returns a keyring of keys in base64, separated by commas or white
// space. The first seals.
func Parse(text string) (*Keyring, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
	keys := make([][]byte, 0, len(fields))
	for i, f := range fields {
		key, err := base64.StdEncoding.DecodeString(f)
		if err != nil {
			// The error of base64 would say where, and so a part of the key.
			return nil, fmt.Errorf("secrets: key %d is not base64; make one with: openssl rand -base64 32", i+1)
		}
		keys = append(keys, key)
	}
	return New(keys...)
}

// File returns the keyring that a file holds in the form of [Parse]. If there is
// none and mayMake, which is asked then, returns no error, it makes the file with
// one new key, readable by its owner alone. Processes that share a database need
// the same file, or the same keys.
func File(path string, mayMake func() error) (*Keyring, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mayMake(); err != nil {
			return nil, err
		}
		key := make([]byte, KeySize)
		_, _ = rand.Read(key) // never fails
		text, err = create(path, base64.StdEncoding.EncodeToString(key)+"\n")
	}
	if err != nil {
		return nil, fmt.Errorf("secrets: key file: %w", err)
	}
	k, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("secrets: key file %s: %w", path, err)
	}
	return k, nil
}

// Password returns the password that a file holds, and makes the file with a new
// one of 128 random bits, readable by its owner alone, if there is none.
func Password(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = create(path, rand.Text()+"\n")
	}
	if err != nil {
		return "", fmt.Errorf("secrets: password file: %w", err)
	}
	password := strings.TrimSpace(string(text))
	if password == "" {
		return "", fmt.Errorf("secrets: password file %s is empty; remove it to have a new password made", path)
	}
	return password, nil
}

// create writes a new file, whole or not at all, and returns its content; of
// several processes at once one wins.
func create(path, text string) ([]byte, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// Seal encrypts secret for this context, which opening must name again.
func (k *Keyring) Seal(secret []byte, context string) Sealed {
	aead := k.keys[k.primary]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(secret)+aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return Sealed{KeyID: k.primary, Box: aead.Seal(nonce, nonce, secret, []byte(context))}
}

// Open decrypts what Seal returned for the same context. Its error is
// [ErrUnknownKey] or [ErrTampered].
func (k *Keyring) Open(s Sealed, context string) ([]byte, error) {
	aead, ok := k.keys[s.KeyID]
	if !ok {
		return nil, fmt.Errorf("%w: key id %s; add the key to the configuration", ErrUnknownKey, s.KeyID)
	}
	if len(s.Box) < aead.NonceSize() {
		return nil, ErrTampered
	}
	out, err := aead.Open(nil, s.Box[:aead.NonceSize()], s.Box[aead.NonceSize():], []byte(context))
	if err != nil {
		return nil, ErrTampered
	}
	return out, nil
}

// Has says whether the key of this id is in the keyring.
func (k *Keyring) Has(id string) bool { return k.keys[id] != nil }

// IDs are the ids of all its keys, in no order.
func (k *Keyring) IDs() []string { return slices.Collect(maps.Keys(k.keys)) }

// Primary is the id of the key that Seal uses.
func (k *Keyring) Primary() string { return k.primary }
