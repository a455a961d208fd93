package schemas

import (
	"encoding/json"
	"reflect"
	"regexp"
	"testing"
)

// Every field has a row, and every row a field and what people ask about it.
func TestAttributesAreTheFields(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z0-9]{1,20}$`) // CloudEvents 1.0, section 3.1
	var x Extensions
	v := reflect.ValueOf(&x).Elem()
	rows := map[uintptr]string{}
	for _, a := range Attributes {
		if !name.MatchString(a.Name) || a.Meaning == "" {
			t.Errorf("%q, %q", a.Name, a.Meaning)
		}
		at := reflect.ValueOf(a.field(&x)).Pointer()
		if rows[at] != "" {
			t.Errorf("%s and %s are the same field", rows[at], a.Name)
		}
		rows[at] = a.Name
		if _, ok := a.Of(&x); ok {
			t.Errorf("%s of nothing", a.Name)
		}
	}
	for i := range v.NumField() {
		if f := v.Field(i); rows[f.Addr().Pointer()] == "" {
			t.Errorf("field %s has no row", v.Type().Field(i).Name)
		}
	}
}

// What has no column goes through one of JSON.
func TestOthersRoundTrip(t *testing.T) {
	t.Parallel()
	table := make([]Attribute, len(Attributes))
	for i, a := range Attributes {
		a.kept = inAttributes
		table[i] = a
	}
	for _, x := range []Extensions{
		{},
		{Severity: new("High"), SeverityRank: new(int32(4)), Fixable: new(false), KEV: new(true), EPSS: new(int32(0)), Updater: new("osv/go"),
			Image: new("a/b:1"), Added: new(int32(1)), Removed: new(int32(2)), Revised: new(int32(1<<31 - 1)), FirstLoad: new(true)},
		{Image: new("")},
	} {
		text, err := json.Marshal(others(table, &x))
		if err != nil {
			t.Fatal(err)
		}
		var back Extensions
		if err := setOthers(table, &back, text); err != nil || !reflect.DeepEqual(back, x) {
			t.Errorf("%s came back as %+v, %v", text, back, err)
		}
	}
	var x Extensions
	if err := x.SetOthers([]byte(`{"of a later version": 1, "severityrank": 3}`)); err != nil || x != (Extensions{}) {
		t.Errorf("%+v, %v", x, err)
	}
	if err := setOthers(table, &x, []byte(`{"kev": "yes"}`)); err == nil {
		t.Error("a text was taken for a boolean")
	}
	if x.Others() != nil {
		t.Error("attributes with columns are among the others")
	}
}
