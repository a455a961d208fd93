package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"tocsin.dev/tocsin/internal/clairconfig"
	"tocsin.dev/tocsin/internal/config"
)

// maxClairConfig bounds a configuration file of Clair's.
const maxClairConfig = 1 << 20

type configFromClairCmd struct {
	File string `arg:"" help:"Clair's configuration, YAML or JSON; - is standard input."`
}

func (configFromClairCmd) Help() string {
	return `Prints a configuration of Tocsin that does the same, with the commands that make the subscriptions and everything that
has no counterpart, with why, as comments. Where Clair reads more files from FILE.d or takes patches, give it what
` + "`clairctl --config FILE check-config`" + ` prints. The output has the secrets that the file has.

Examples:
  tocsin config from-clair clair.yaml > tocsin.yaml
  tocsin config from-clair clair.yaml -o json | jq .notes`
}

func (c *configFromClairCmd) Run(e *env) error {
	in := e.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
		if info, err := os.Stat(c.File + ".d"); err == nil && info.IsDir() {
			e.notef("%s Clair reads %s.d, too, and this does not.", e.notice.Warn("warning:"), c.File)
		}
	}
	text, err := io.ReadAll(io.LimitReader(in, maxClairConfig+1))
	if err != nil {
		return err
	}
	if len(text) > maxClairConfig {
		return fmt.Errorf("%s is over %d bytes", c.File, maxClairConfig)
	}
	r, err := clairconfig.Translate(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	out, err := r.YAML()
	if err != nil {
		return err
	}
	cfg, err := config.Parse(e.actions.Defaults, out)
	if err == nil {
		err = errors.Join(cfg.Validate(), e.actions.Check(cfg))
	}
	if err != nil {
		e.notef("%s what came out needs a hand: %v", e.notice.Warn("warning:"), err)
	}
	return e.print(r, func() error { return e.printf("%s", out) })
}
