// Command generate writes the JSON Schemas, the AsyncAPI document and the
// golden examples of package schemas from its Go types, their comments and the
// literals in examples.go, and the table of attributes in docs/events.md. It is
// run by "go generate" in package schemas; with -check it writes nothing and
// fails if a file is not as it would write it.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	check := flag.Bool("check", false, "write nothing; fail if a file is out of date")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	docs, err := readDocs(".")
	if err != nil {
		return err
	}
	files := map[string]any{"asyncapi.json": asyncAPI(docs)}
	for _, e := range events {
		files[e.typ+".json"] = docs.schema(e)
		files[filepath.Join("examples", e.typ+".json")] = example(e)
	}
	reference, err := os.ReadFile(referencePath)
	if err != nil {
		return err
	}
	if files[referencePath], err = withAttributes(string(reference)); err != nil {
		return fmt.Errorf("%s: %w", referencePath, err)
	}
	for name, content := range files {
		text, err := written(content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !check {
			if err := os.WriteFile(name, text, 0o644); err != nil {
				return err
			}
			continue
		}
		have, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, text) {
			return fmt.Errorf("%s is out of date; run: go generate ./schemas", name)
		}
	}
	return nil
}

// written is a file's content: a text as it is, anything else as JSON.
func written(v any) ([]byte, error) {
	if text, ok := v.(string); ok {
		return []byte(text), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
