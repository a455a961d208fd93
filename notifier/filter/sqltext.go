package filter

import (
	"fmt"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// textFunction names a function by its name and its number of arguments.
type textFunction struct {
	name string
	args int
}

// textFunctions are the functions of CloudEvents SQL that count characters
// (CloudEvents SQL 1.0, section 3.5.2). Each is given a text and up to two
// integers.
var textFunctions = map[textFunction]func(s []rune, n []int) (any, error){
	{"LENGTH", 1}:    func(s []rune, _ []int) (any, error) { return int32(len(s)), nil },
	{"LEFT", 2}:      func(s []rune, n []int) (any, error) { return end(s, n[0], func(n int) []rune { return s[:n] }) },
	{"RIGHT", 2}:     func(s []rune, n []int) (any, error) { return end(s, n[0], func(n int) []rune { return s[len(s)-n:] }) },
	{"SUBSTRING", 2}: func(s []rune, n []int) (any, error) { return substring(s, n[0], len(s)) },
	{"SUBSTRING", 3}: func(s []rune, n []int) (any, error) { return substring(s, n[0], n[1]) },
}

// end is what cut leaves of s: all of it if it has not n characters.
func end(s []rune, n int, cut func(n int) []rune) (any, error) {
	if n < 0 {
		return string(s), fmt.Errorf("the number of characters is negative: %d", n)
	}
	return string(cut(min(n, len(s)))), nil
}

// substring is up to length characters of s from a position on, which counts
// from 1, or from the end if it is negative.
func substring(s []rune, position, length int) (any, error) {
	switch {
	case position == 0:
		return "", nil
	case position < -len(s) || position > len(s):
		return "", fmt.Errorf("there is no position %d in %d characters", position, len(s))
	case length < 0:
		return "", fmt.Errorf("the number of characters is negative: %d", length)
	case position < 0:
		position += len(s)
	default:
		position--
	}
	return string(s[position : position+min(length, len(s)-position)]), nil
}

// onText is the invocation of a function of textFunctions.
type onText struct {
	args []cesql.Expression // a text, then integers
	do   func(s []rune, n []int) (any, error)
}

// Evaluate implements the SDK's Expression.
func (x onText) Evaluate(e cloudevents.Event) (any, error) {
	none, _ := x.do(nil, make([]int, len(x.args)-1)) // what stands for a result beside an error
	text, err := evaluate(x.args[0], e, cesql.StringType)
	if err != nil {
		return none, err
	}
	n := make([]int, len(x.args)-1)
	for i, arg := range x.args[1:] {
		v, err := evaluate(arg, e, cesql.IntegerType)
		if err != nil {
			return none, err
		}
		n[i] = int(v.(int32))
	}
	out, err := x.do([]rune(text.(string)), n)
	if err != nil {
		return out, sqlerrors.NewFunctionEvaluationError(err)
	}
	return out, nil
}

func evaluate(x cesql.Expression, e cloudevents.Event, t cesql.Type) (any, error) {
	v, err := x.Evaluate(e)
	if err != nil {
		return nil, err
	}
	return utils.Cast(v, t)
}

// likeText is LIKE: in the pattern _ is any one character, % any number of
// them, and \ takes either's meaning away.
type likeText struct {
	child   cesql.Expression
	pattern []rune
}

// Evaluate implements the SDK's Expression.
func (x likeText) Evaluate(e cloudevents.Event) (any, error) {
	v, err := evaluate(x.child, e, cesql.StringType)
	if err != nil {
		return false, err
	}
	return like([]rune(v.(string)), x.pattern), nil
}

// like matches by going back to the last % only, so that its time is bounded by
// the product of the lengths.
func like(text, pattern []rune) bool {
	t, p := 0, 0
	star, from := -1, 0 // the last %, and how far it reaches
	for t < len(text) {
		literal, width := rune(0), 1
		if p < len(pattern) {
			if literal = pattern[p]; literal == '\\' && p+1 < len(pattern) && (pattern[p+1] == '_' || pattern[p+1] == '%') {
				literal, width = pattern[p+1], 2
			}
		}
		switch {
		case p < len(pattern) && width == 1 && literal == '%':
			star, from = p, t
			p++
		case p < len(pattern) && (width == 1 && literal == '_' || literal == text[t]):
			p += width
			t++
		case star >= 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '%' {
		p++
	}
	return p == len(pattern)
}
