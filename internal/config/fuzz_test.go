package config_test

import (
	"testing"

	"tocsin.dev/tocsin/internal/config"
)

// FuzzParse holds the reader of the configuration to an answer for every text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"listen: 127.0.0.1:0\n", "delivery: {allow_networks: [127.0.0.0/8], schedule: [5s]}\n", "indexer: {max_layer_size: 4GiB}\n", "nosuch: 1\n", "a: &a [*a]\n",
		"updaters: {config: {osv: {url: \"http://x/\"}}}\n", "secrets: {keys: [x]}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = config.Parse(config.Default(), text) })
}
