package countersigntest

import (
	"testing"
	"time"
)

// Clock is the server's clock. It moves forward only. It belongs to tests with a server of their own.
type Clock struct{ server *Server }

// Now returns the server's time.
func (clock Clock) Now(t testing.TB) time.Time {
	t.Helper()
	return clock.ask(t, "GET", nil)
}

// Advance moves the clock forward and returns the new time.
func (clock Clock) Advance(t testing.TB, by time.Duration) time.Time {
	t.Helper()
	return clock.ask(t, "POST", map[string]any{"advance": by.Seconds()})
}

// TravelTo moves the clock forward to a time.
func (clock Clock) TravelTo(t testing.TB, to time.Time) time.Time {
	t.Helper()
	return clock.ask(t, "POST", map[string]any{"to": to.UTC().Format(time.RFC3339Nano)})
}

// Freeze stops the clock. Advance and TravelTo still move it.
func (clock Clock) Freeze(t testing.TB) time.Time {
	t.Helper()
	return clock.ask(t, "POST", map[string]any{"freeze": true})
}

// Resume lets a frozen clock go on.
func (clock Clock) Resume(t testing.TB) time.Time {
	t.Helper()
	return clock.ask(t, "POST", map[string]any{"resume": true})
}

func (clock Clock) ask(t testing.TB, method string, body any) time.Time {
	t.Helper()
	clock.server.requireOwn(t, "the clock")
	var result struct{ Now time.Time }
	check(t, clock.server.Request(method, "/clock", body, &result, 0))
	return result.Now
}

// Chaos are failures that the server makes on purpose. They belong to tests with a server of their own.
type Chaos struct{ server *Server }

// Set replaces the failures. The argument is the body of PUT /chaos.
func (chaos Chaos) Set(t testing.TB, failures map[string]any) {
	t.Helper()
	chaos.server.requireOwn(t, "chaos")
	check(t, chaos.server.Request("PUT", "/chaos", failures, nil, 0))
}

// Clear ends all failures.
func (chaos Chaos) Clear(t testing.TB) {
	t.Helper()
	chaos.server.requireOwn(t, "chaos")
	check(t, chaos.server.Request("DELETE", "/chaos", nil, nil, 0))
}
