// Package secrets seals small secrets for storage, with AES-256-GCM.
//
// It guarantees that what is sealed opens only under the key that sealed it and
// for the same context, so that a sealed value moved to another row does not
// open; and that a [Keyring] opens what any of its keys sealed while it seals
// with the first alone, so that keys can be exchanged: add the new key in front,
// seal everything again, take the old key out.
//
// It does not keep keys from whoever can read the process's memory, the
// configuration or the key file.
package secrets
