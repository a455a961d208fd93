package httpapi

// ClientHost is clientHost for tests.
var ClientHost = clientHost
