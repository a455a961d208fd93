package warm

import (
	"testing"

	_ "github.com/google/go-cmp/cmp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/standard-webhooks/standard-webhooks/libraries/go"
	_ "go.uber.org/goleak"
	_ "pgregory.net/rapid"
)

func TestX(t *testing.T) {}
