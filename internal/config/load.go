package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds a configuration file and a file named by a variable.
const maxFile = 1 << 20

// Load reads the configuration: the defaults given, then the file at path unless path is
// empty, then the environment ("NAME=value" as os.Environ has them). It does not
// validate; see [Config.Validate]. Warnings are about variables that look like
// ours and are not.
func Load(defaults Config, path string, environ []string) (c Config, warnings []string, err error) {
	c = defaults
	if path != "" {
		b, err := readFile(path)
		if err != nil {
			return Config{}, nil, fmt.Errorf("configuration: %w", err)
		}
		if err := parse(b, &c); err != nil {
			if isClair(b) {
				return Config{}, nil, fmt.Errorf("configuration %s: %w", path, ErrClair)
			}
			return Config{}, nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	warnings, err = c.environment(environ)
	if err != nil {
		return Config{}, nil, fmt.Errorf("configuration: %w", err)
	}
	return c, warnings, nil
}

// Parse reads the text of a configuration file over the defaults given. It does not
// validate.
func Parse(defaults Config, text []byte) (Config, error) {
	c := defaults
	if err := parse(text, &c); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// ErrClair is the error of a file that configures Clair.
var ErrClair = errors.New("is a configuration of Clair, not of Tocsin: `tocsin config from-clair FILE` translates it")

// isClair reports whether a text has keys of Clair's that Tocsin has not.
func isClair(text []byte) bool {
	var doc struct {
		Listen        any `yaml:"http_listen_addr"`
		Introspection any `yaml:"introspection_addr"`
		Level         any `yaml:"log_level"`
		Matchers      any `yaml:"matchers"`
		Indexer       struct {
			ConnString any `yaml:"connstring"`
		} `yaml:"indexer"`
		Matcher struct {
			ConnString any `yaml:"connstring"`
			Indexer    any `yaml:"indexer_addr"`
		} `yaml:"matcher"`
		Notifier struct {
			ConnString any `yaml:"connstring"`
			Webhook    any `yaml:"webhook"`
		} `yaml:"notifier"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return false
	}
	for _, v := range []any{
		doc.Listen, doc.Introspection, doc.Level, doc.Matchers, doc.Indexer.ConnString,
		doc.Matcher.ConnString, doc.Matcher.Indexer, doc.Notifier.ConnString, doc.Notifier.Webhook,
	} {
		if v != nil {
			return true
		}
	}
	return false
}

// parse reads YAML over c. A key without a value, such as a section whose keys
// are all commented out, changes nothing.
func parse(b []byte, c *Config) error {
	// For the errors, those of keys without a value included.
	if err := yaml.UnmarshalWithOptions(b, new(Config), yaml.Strict()); err != nil && !errors.Is(err, io.EOF) {
		// Without the source, which may hold secrets.
		return errors.New(yaml.FormatError(err, false, false))
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return errors.New(yaml.FormatError(err, false, false))
	}
	if len(f.Docs) > 1 {
		return errors.New("has several YAML documents: there can be one")
	}
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType {
			continue
		}
		ast.Walk(dropNull{}, doc.Body)
		if err := yaml.NodeToValue(doc.Body, c, yaml.Strict()); err != nil {
			return errors.New(yaml.FormatError(err, false, false))
		}
	}
	return nil
}

// dropNull takes keys without a value out of mappings.
type dropNull struct{}

func (d dropNull) Visit(n ast.Node) ast.Visitor {
	if m, ok := n.(*ast.MappingNode); ok {
		m.Values = slices.DeleteFunc(m.Values, func(v *ast.MappingValueNode) bool { return v.Value.Type() == ast.NullType })
	}
	return d
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is over %d bytes", path, maxFile)
	}
	return b, nil
}
