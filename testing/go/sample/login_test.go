package login

import (
	"errors"
	"os"
	"testing"
	"time"

	"countersign/countersigntest"

	"github.com/twilio/twilio-go"
	"github.com/twilio/twilio-go/client"
)

// Tests of a backend whose sign-in needs the phone. Copy what is useful.

const user = "user-0001"

func TestMain(m *testing.M) {
	os.Exit(countersigntest.Main(m))
}

func backendOf(t *testing.T, cs *countersigntest.Countersign) *Backend {
	own := &client.Client{Credentials: client.NewCredentials(cs.AccountSid, cs.AuthToken), HTTPClient: cs.HTTPClient()}
	own.SetAccountSid(cs.AccountSid)
	backend := NewBackend(twilio.NewRestClientWithParams(twilio.ClientParams{Client: own}), cs.AuthToken, cs.ServiceSid)
	t.Cleanup(backend.Close)
	return backend
}

func TestLoginWaitsForThePhone(t *testing.T) {
	t.Parallel()
	cs := countersigntest.Start(t)
	backend := backendOf(t, cs)
	phone := cs.Device(t, user, countersigntest.Ignore)
	login := start(t, backend, "")
	requireState(t, backend, login, Waiting)
	phone.Approve(t)
	requireState(t, backend, login, SignedIn)
}

func TestDeniedLoginIsRefused(t *testing.T) {
	t.Parallel()
	cs := countersigntest.Start(t)
	backend := backendOf(t, cs)
	phone := cs.Device(t, user, countersigntest.Ignore)
	login := start(t, backend, "")
	phone.Deny(t)
	requireState(t, backend, login, Refused)
	_, err := phone.Answer(countersigntest.Approve, login, 0)
	var refused *countersigntest.RequestError
	if !errors.As(err, &refused) || refused.Status != 409 {
		t.Fatalf("a second answer was not refused: %v", err)
	}
}

func TestWebhookReportsAnApproval(t *testing.T) {
	t.Parallel()
	cs := countersigntest.Start(t)
	backend := backendOf(t, cs)
	require(t, backend.Subscribe())
	phone := cs.Device(t, user, countersigntest.Approve)
	login := start(t, backend, "")
	approved := countersigntest.OfType("challenge.approved")
	webhook := cs.Webhooks.WaitFor(t, approved, 5*time.Second, countersigntest.Webhook.IsDelivered)
	requireEqual(t, webhook.Parameters["challenge_sid"], login)
	requireEqual(t, webhook.Parameters["factor_sid"], phone.FactorSid)
	requireEqual(t, backend.Known(login), SignedIn)
}

func TestReturnedWebhookHasBeenHandled(t *testing.T) {
	t.Parallel()
	cs := countersigntest.Start(t)
	backend := backendOf(t, cs)
	require(t, backend.Subscribe())
	backend.SetDelay(300 * time.Millisecond)
	cs.Device(t, user, countersigntest.Approve)
	login := start(t, backend, "")
	cs.Webhooks.WaitFor(t, countersigntest.Filter{}, 5*time.Second, func(countersigntest.Webhook) bool { return true })
	requireEqual(t, backend.Known(login), SignedIn)
}

func TestPushAsksThePhone(t *testing.T) {
	t.Parallel()
	cs := countersigntest.Start(t)
	backend := backendOf(t, cs)
	phone := cs.Enroll(t, countersigntest.NewDevice{Identity: user, Push: "apn"})
	login := start(t, backend, "")
	push := cs.Pushes.Wait(t, countersigntest.ForFactor(phone.FactorSid), 5*time.Second)
	requireEqual(t, push.Provider, "apn")
	requireEqual(t, push.ChallengeSid, login)
	requireEqual(t, push.Outcome, "delivered")
}

func TestCodeOnThePhoneIsThatOfTheLogin(t *testing.T) {
	t.Parallel()
	cs := countersigntest.Start(t)
	backend := backendOf(t, cs)
	phone := cs.Device(t, user, countersigntest.Ignore)
	start(t, backend, "47")
	requireEqual(t, phone.Approve(t).Field("code"), "47")
}

func TestLoginTimesOutWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	cs := countersigntest.StartServer(t)
	backend := backendOf(t, cs)
	cs.Device(t, user, countersigntest.Ignore)
	login := start(t, backend, "")
	cs.Clock.Advance(t, 4*time.Minute)
	requireState(t, backend, login, Waiting)
	cs.Clock.Advance(t, time.Minute+time.Second)
	requireState(t, backend, login, TimedOut)
}

func TestFailedWebhookIsSentAgainAndDelaysNoLogin(t *testing.T) {
	t.Parallel()
	cs := countersigntest.StartServer(t)
	backend := backendOf(t, cs)
	require(t, backend.Subscribe())
	backend.SetBroken(true)
	phone := cs.Device(t, user, countersigntest.Ignore)
	login := start(t, backend, "")
	cs.Clock.Freeze(t)
	phone.Approve(t)
	ofLogin := countersigntest.ForChallenge(login)
	failed := cs.Webhooks.WaitFor(t, ofLogin, 5*time.Second, func(webhook countersigntest.Webhook) bool {
		return len(webhook.Attempts) > 0
	})
	requireEqual(t, failed.Attempts[0].Ending, "again")
	requireEqual(t, failed.Attempts[0].Status, 500)
	requireEqual(t, backend.Known(login), Waiting)
	requireState(t, backend, login, SignedIn)

	backend.SetBroken(false)
	cs.Clock.Advance(t, 10*time.Second)
	cs.Webhooks.WaitFor(t, ofLogin, 5*time.Second, countersigntest.Webhook.IsDelivered)
}

func start(t *testing.T, backend *Backend, code string) string {
	t.Helper()
	login, err := backend.StartLogin(user, code)
	require(t, err)
	return login
}

func requireState(t *testing.T, backend *Backend, login string, expected State) {
	t.Helper()
	state, err := backend.State(user, login)
	require(t, err)
	requireEqual(t, state, expected)
}

func require(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func requireEqual[Value comparable](t *testing.T, actual, expected Value) {
	t.Helper()
	if actual != expected {
		t.Fatalf("%v is not %v", actual, expected)
	}
}
