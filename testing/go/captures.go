package countersigntest

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	pollInterval = 20 * time.Millisecond
	// The longest wait of one request.
	maxWait = time.Minute
	// The shortest one. Without a wait, the server also returns webhooks whose first attempt still runs.
	minWait = time.Millisecond
)

// Filter selects captures. Empty members select all.
type Filter struct {
	ChallengeSid string
	FactorSid    string
	// Type is the type of a webhook, for example challenge.approved.
	Type string
	// Limit is the number of captures, the newest of those that fit.
	Limit int
}

// ForFactor selects the captures of a factor.
func ForFactor(sid string) Filter { return Filter{FactorSid: sid} }

// ForChallenge selects the captures of a challenge.
func ForChallenge(sid string) Filter { return Filter{ChallengeSid: sid} }

// OfType selects webhooks of a type.
func OfType(name string) Filter { return Filter{Type: name} }

// Captures are the captured pushes or webhooks of an account.
type Captures[Item any] struct {
	owner *Countersign
	kind  string
}

// List returns the captures that fit, oldest first.
func (captures Captures[Item]) List(t testing.TB, filter Filter) []Item {
	t.Helper()
	found, err := captures.read(filter, 0)
	check(t, err)
	return found
}

// Wait returns the newest capture that fits, after waiting for it up to timeout. A webhook fits only after its first
// attempt, so the backend has handled it.
func (captures Captures[Item]) Wait(t testing.TB, filter Filter, timeout time.Duration) Item {
	t.Helper()
	for end := time.Now().Add(timeout); ; {
		found, err := captures.read(filter, waitUntil(end))
		check(t, err)
		if len(found) > 0 {
			return found[len(found)-1]
		}
		if time.Now().After(end) {
			t.Fatalf("none of the %s fits after %s: %+v", captures.kind, timeout, filter)
		}
	}
}

// WaitFor is like Wait for captures for which also the function fits returns true.
func (captures Captures[Item]) WaitFor(t testing.TB, filter Filter, timeout time.Duration, fits func(Item) bool) Item {
	t.Helper()
	// The server does not know the function, so it returns at once what the filter selects.
	for end := time.Now().Add(timeout); ; time.Sleep(pollInterval) {
		found, err := captures.read(filter, waitUntil(end))
		check(t, err)
		for at := len(found) - 1; at >= 0; at-- {
			if fits(found[at]) {
				return found[at]
			}
		}
		if time.Now().After(end) {
			t.Fatalf("none of the %d %s fits after %s: %+v", len(found), captures.kind, timeout, filter)
		}
	}
}

// waitUntil returns the wait of a request that is to end at this time.
func waitUntil(end time.Time) time.Duration {
	return min(max(time.Until(end), minWait), maxWait)
}

// Clear removes the captures that fit.
func (captures Captures[Item]) Clear(t testing.TB, filter Filter) {
	t.Helper()
	check(t, captures.owner.Server.Request("DELETE", captures.path(filter, 0), nil, nil, 0))
}

func (captures Captures[Item]) read(filter Filter, wait time.Duration) ([]Item, error) {
	found := []Item{}
	err := captures.owner.Server.Request("GET", captures.path(filter, wait), nil, &found, wait)
	return found, err
}

func (captures Captures[Item]) path(filter Filter, wait time.Duration) string {
	query := url.Values{"account_sid": {captures.owner.AccountSid}}
	for name, value := range map[string]string{
		"challenge_sid": filter.ChallengeSid, "factor_sid": filter.FactorSid, "type": filter.Type,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if filter.Limit > 0 {
		query.Set("limit", strconv.Itoa(filter.Limit))
	}
	if wait > 0 {
		query.Set("wait", fmt.Sprint(wait.Seconds()))
	}
	return "/" + captures.kind + "?" + query.Encode()
}

// Push is a captured push: what would have gone to the provider.
type Push struct {
	ID              string            `json:"id"`
	At              time.Time         `json:"at"`
	Provider        string            `json:"provider"`
	ServiceSid      string            `json:"service_sid"`
	FactorSid       string            `json:"factor_sid"`
	ChallengeSid    string            `json:"challenge_sid"`
	NotificationSid string            `json:"notification_sid"`
	Token           string            `json:"token"`
	Headers         map[string]string `json:"headers"`
	Body            map[string]any    `json:"body"`
	Outcome         string            `json:"outcome"`
	// WouldFail is the code of the alert that this push would raise in production, or 0.
	WouldFail int `json:"would_fail"`
}

func (push Push) String() string {
	return words(push.At.Format(time.RFC3339), push.Provider, push.ChallengeSid, push.Outcome)
}

// Webhook is a captured webhook with its attempts.
type Webhook struct {
	ID         string            `json:"id"`
	At         time.Time         `json:"at"`
	ServiceSid string            `json:"service_sid"`
	WebhookSid string            `json:"webhook_sid"`
	URL        string            `json:"url"`
	Parameters map[string]string `json:"parameters"`
	// Body is the JSON body of a verification event, and empty for other webhooks.
	Body     []map[string]any  `json:"body"`
	Headers  map[string]string `json:"headers"`
	Attempts []Attempt         `json:"attempts"`
}

func (webhook Webhook) String() string {
	attempts := []string{}
	for _, attempt := range webhook.Attempts {
		attempts = append(attempts, words(attempt.Ending, attempt.Status, attempt.Words))
	}
	if len(attempts) == 0 {
		attempts = append(attempts, "no attempt yet")
	}
	at := webhook.At.Format(time.RFC3339)
	return fmt.Sprintf("%s %s to %s: %s", at, webhook.Type(), webhook.URL, strings.Join(attempts, ", "))
}

// Type returns the type, for example challenge.approved.
func (webhook Webhook) Type() string {
	if len(webhook.Body) > 0 {
		name, _ := webhook.Body[0]["type"].(string)
		return name
	}
	return webhook.Parameters["type"]
}

// IsDelivered reports whether the receiver has accepted the webhook.
func (webhook Webhook) IsDelivered() bool {
	return len(webhook.Attempts) > 0 && webhook.Attempts[len(webhook.Attempts)-1].Ending == "delivered"
}

// Attempt is one attempt to deliver a webhook.
type Attempt struct {
	// Ending is delivered, again, failed, skipped or kept.
	Ending       string `json:"ending"`
	Status       int    `json:"status"`
	Milliseconds int    `json:"milliseconds"`
	Words        string `json:"words"`
}
