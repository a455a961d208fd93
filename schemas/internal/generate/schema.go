package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"time"
	"unicode"

	"tocsin.dev/tocsin/schemas"
)

// docs are the comments of package schemas: of types by name, of fields by
// "Type.Field".
type docs map[string]string

func readDocs(dir string) (docs, error) {
	d := docs{}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				d.read(gen, spec.(*ast.TypeSpec))
			}
		}
	}
	return d, nil
}

func (d docs) read(gen *ast.GenDecl, t *ast.TypeSpec) {
	name := t.Name.Name
	d[name] = flow(gen.Doc.Text())
	s, ok := t.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range s.Fields.List {
		text := flow(f.Comment.Text())
		if text == "" {
			text = flow(f.Doc.Text())
		}
		for _, n := range f.Names {
			d[name+"."+n.Name] = text
		}
	}
}

// flow makes one line of a comment.
func flow(s string) string { return strings.Join(strings.Fields(s), " ") }

// object keeps a schema's keywords; encoding/json sorts them.
type object map[string]any

// schema is the JSON Schema of an event's data.
func (d docs) schema(e event) object {
	defs := object{}
	root := d.structure(reflect.TypeOf(e.data), defs)
	if e.typ == schemas.TypeManifestIndexFailed {
		digest := defs["Manifest"].(object)["properties"].(object)["digest"].(object)
		digest["pattern"], digest["description"] = "^(sha(256|512):[0-9a-f]+)?$", "Empty where the image's manifest was not found"
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "https://tocsin.dev/schemas/" + e.typ + ".json"
	root["title"] = "Data of " + e.typ
	if len(defs) > 0 {
		root["$defs"] = defs
	}
	return root
}

var (
	timeType = reflect.TypeFor[time.Time]()
	anyType  = reflect.TypeFor[any]()
)

// of is the schema of a type; structures go to defs.
func (d docs) of(t reflect.Type, defs object) object {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t == anyType:
		return object{"type": []string{"string", "number", "boolean", "null"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.of(t.Elem(), defs)
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return object{"type": "number", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": d.of(t.Elem(), defs)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.of(t.Elem(), defs)}
	case reflect.Struct:
		if _, ok := defs[t.Name()]; !ok {
			defs[t.Name()] = object{} // ends recursion
			defs[t.Name()] = d.structure(t, defs)
		}
		return object{"$ref": "#/$defs/" + t.Name()}
	}
	panic("schemas: no JSON Schema for " + t.String())
}

// structure is the schema of a struct, closed against unknown members.
func (d docs) structure(t reflect.Type, defs object) object {
	properties, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		s := d.of(f.Type, defs)
		owner := t
		if len(f.Index) > 1 {
			owner = t.Field(f.Index[0]).Type
		}
		if text := d[owner.Name()+"."+f.Name]; text != "" {
			s["description"] = upper(text)
		}
		for k, v := range constraints[owner.Name()+"."+f.Name] {
			s[k] = v
		}
		properties[tag] = s
		if !strings.Contains(options, "omit") {
			required = append(required, tag)
		}
	}
	return object{
		"type": "object", "description": d[t.Name()], "properties": properties, "required": required, "additionalProperties": false,
	}
}

func upper(s string) string {
	r := []rune(s)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

// constraints are what the Go types do not say.
var constraints = map[string]object{
	"Manifest.Digest":                {"pattern": "^sha(256|512):[0-9a-f]+$"},
	"ChangedManifest.Digest":         {"pattern": "^sha(256|512):[0-9a-f]+$"},
	"ChangedManifest.Event":          {"format": "uuid"},
	"ChangedManifest.Severity":       {"enum": append([]string{""}, schemas.SeverityNames[:]...), "description": "Empty where nothing was added or revised"},
	"Finding.NormalizedSeverity":     {"enum": schemas.SeverityNames},
	"Finding.SeveritySource":         {"enum": []string{"feed", "cvss", "enrichment"}},
	"FieldChange.Field":              {"enum": []string{"severity", "normalized_severity", "fixed_in_version", "kev", "epss"}},
	"Update.Ref":                     {"format": "uuid"},
	"Update.Previous":                {"format": "uuid"},
	"EPSS.Score":                     {"maximum": 1},
	"EPSS.Percentile":                {"maximum": 1},
	"CVSS.Score":                     {"maximum": 10},
	"SubscriptionState.Protocol":     {"enum": []string{"HTTP", "AMQP", "STOMP", "NATS"}},
	"SubscriptionState.Subscription": {"format": "uuid"},
	"JobRejected.Payload":            {"maxLength": 1024},
	"ManifestsChanged.Manifests":     {"maxItems": 100},
}
