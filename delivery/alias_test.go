package delivery_test

import (
	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
)

type (
	Options = delivery.Options
	uuidT   = uuid.UUID
)

// childEnv makes a test process a replica: it holds the database's URL.
const childEnv = "TOCSIN_DELIVERY_TEST_CHILD"
