package delivery_test

import (
	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
)

type (
	Options = delivery.Options
	uuidT   = uuid.UUID
)

const childEnv = "TOCSIN_DELIVERY_TEST_CHILD"

func child() int { return 0 }
