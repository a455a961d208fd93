package filter

import (
	"reflect"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"tocsin.dev/tocsin/schemas"
)

// celFields looks for fields that no event has: an expression that reads one
// fails on every event, and is never true.
//
// It follows the shapes that a value can have, as Go types of package schemas:
// those of all event types, since an expression serves them all. A value of
// which nothing is known has no shapes, and anything may be read of it.
type celFields struct {
	variables map[string][]reflect.Type // shapes of the comprehensions' variables
	unknown   func(id int64, text, known string)
}

// dataShapes are the shapes of data.
var dataShapes = func() (out []reflect.Type) {
	for _, typ := range schemas.Types {
		out = append(out, reflect.TypeOf(schemas.Data[typ]))
	}
	return out
}()

// check visits x and answers its shapes.
func (c *celFields) check(x ast.Expr) []reflect.Type {
	switch x.Kind() {
	case ast.IdentKind:
		if shapes, ok := c.variables[x.AsIdent()]; ok {
			return shapes
		}
		if x.AsIdent() == "data" {
			return dataShapes
		}
	case ast.SelectKind:
		s := x.AsSelect()
		if s.Operand().Kind() == ast.IdentKind && s.Operand().AsIdent() == "event" {
			if _, ok := attributeTypes[s.FieldName()]; !ok {
				c.unknown(x.ID(), "event."+s.FieldName(), strings.Join(sortedKeys(attributeTypes), ", "))
			}
			return nil
		}
		return c.field(x.ID(), c.check(s.Operand()), s.FieldName())
	case ast.CallKind:
		call := x.AsCall()
		if call.IsMemberFunction() {
			c.check(call.Target())
		}
		var first []reflect.Type
		for i, arg := range call.Args() {
			if shapes := c.check(arg); i == 0 {
				first = shapes
			}
		}
		if call.FunctionName() == operators.Index {
			if key, ok := celLiteral(call.Args()[1]).(string); ok {
				return c.field(x.ID(), first, key)
			}
			return elements(first)
		}
	case ast.ListKind:
		for _, one := range x.AsList().Elements() {
			c.check(one)
		}
	case ast.MapKind:
		for _, entry := range x.AsMap().Entries() {
			c.check(entry.AsMapEntry().Key())
			c.check(entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		c.comprehension(x.AsComprehension())
	}
	return nil
}

// comprehension visits exists, all, map, filter and their like.
func (c *celFields) comprehension(x ast.ComprehensionExpr) {
	over := elements(c.check(x.IterRange()))
	c.check(x.AccuInit())
	inner := &celFields{unknown: c.unknown, variables: map[string][]reflect.Type{}}
	for name, shapes := range c.variables {
		inner.variables[name] = shapes
	}
	inner.variables[x.IterVar()] = over
	if x.HasIterVar2() { // a list's position or a map's key, and the value
		inner.variables[x.IterVar()], inner.variables[x.IterVar2()] = nil, over
	}
	inner.variables[x.AccuVar()] = nil
	for _, part := range []ast.Expr{x.LoopCondition(), x.LoopStep(), x.Result()} {
		inner.check(part)
	}
}

// field is the shapes of a field. It reports one that no shape has, unless a
// shape has any field whatever.
func (c *celFields) field(id int64, of []reflect.Type, name string) []reflect.Type {
	if len(of) == 0 {
		return nil
	}
	var out []reflect.Type
	var known []string
	found := false
	for _, t := range of {
		switch t = bare(t); t.Kind() {
		case reflect.Map:
			found, out = true, append(out, t.Elem())
		case reflect.Struct:
			for tag, f := range fieldsOf(t) {
				known = append(known, tag)
				if tag == name {
					found, out = true, append(out, f)
				}
			}
		case reflect.Interface:
			return nil
		}
	}
	if !found {
		slices.Sort(known)
		c.unknown(id, name, strings.Join(slices.Compact(known), ", "))
		return nil
	}
	return out
}

// elements are the shapes of the elements of lists and maps.
func elements(of []reflect.Type) (out []reflect.Type) {
	for _, t := range of {
		switch t = bare(t); t.Kind() {
		case reflect.Slice, reflect.Map:
			out = append(out, t.Elem())
		}
	}
	return out
}

func bare(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// fieldsOf are the types of a structure's fields by their names in JSON. A time
// and its like, which JSON has as a text, have none.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" && !f.Anonymous {
			out[tag] = f.Type
		}
	}
	return out
}

// fields refuses what celFields finds.
func (b *builder) fields(checked *ast.AST, at string) bool {
	before := len(b.problems)
	c := &celFields{unknown: func(id int64, text, known string) {
		where := checked.SourceInfo().GetStartLocation(id)
		hint := ""
		if known != "" {
			hint = "there are " + known
		}
		b.refuse(at, hint, "line %d, column %d: no event has a field %q there", max(where.Line(), 1), where.Column()+1, text)
	}}
	c.check(checked.Expr())
	return len(b.problems) == before
}
