// Package login is the backend under test: a sign-in that the user's phone approves, written with Twilio's library alone.
package login

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/twilio/twilio-go"
	"github.com/twilio/twilio-go/client"
	verify "github.com/twilio/twilio-go/rest/verify/v2"
)

// State is the state of a sign-in.
type State string

// The states of a sign-in.
const (
	Waiting  State = "waiting"
	SignedIn State = "signed in"
	Refused  State = "refused"
	TimedOut State = "timed out"
)

var states = map[string]State{"pending": Waiting, "approved": SignedIn, "denied": Refused, "expired": TimedOut}

// Backend starts sign-ins and knows their state, from webhooks or by asking the API.
type Backend struct {
	twilio    *twilio.RestClient
	service   string
	validator client.RequestValidator
	http      *httptest.Server
	mutex     sync.Mutex
	known     map[string]State
	isBroken  bool
	delay     time.Duration
}

// NewBackend returns a backend of a service.
func NewBackend(twilio *twilio.RestClient, authToken, service string) *Backend {
	backend := &Backend{twilio: twilio, service: service, validator: client.NewRequestValidator(authToken), known: map[string]State{}}
	backend.http = httptest.NewServer(http.HandlerFunc(backend.receive))
	return backend
}

// Close ends the endpoint for webhooks.
func (backend *Backend) Close() { backend.http.Close() }

// SetBroken lets the endpoint for webhooks answer 500.
func (backend *Backend) SetBroken(isBroken bool) {
	backend.mutex.Lock()
	defer backend.mutex.Unlock()
	backend.isBroken = isBroken
}

// SetDelay sets the time that the endpoint for webhooks takes before it handles one.
func (backend *Backend) SetDelay(delay time.Duration) {
	backend.mutex.Lock()
	defer backend.mutex.Unlock()
	backend.delay = delay
}

// Subscribe creates the webhook.
func (backend *Backend) Subscribe() error {
	params := &verify.CreateWebhookParams{}
	params.SetFriendlyName("sign-ins").SetEventTypes([]string{"challenge.approved", "challenge.denied"})
	params.SetWebhookUrl(backend.http.URL + "/webhooks").SetVersion("v2")
	_, err := backend.twilio.VerifyV2.CreateWebhook(backend.service, params)
	return err
}

// StartLogin sends a challenge, which expires after five minutes, to the user's phone. It returns the SID of the
// sign-in. The phone shows the code unless it is empty.
func (backend *Backend) StartLogin(identity, code string) (string, error) {
	factors, err := backend.twilio.VerifyV2.ListFactor(backend.service, identity, &verify.ListFactorParams{})
	if err != nil {
		return "", err
	}
	for _, factor := range factors {
		if *factor.Status != "verified" {
			continue
		}
		params := &verify.CreateChallengeParams{}
		params.SetFactorSid(*factor.Sid).SetDetailsMessage("Sign in to Example Bank?")
		if code != "" {
			params.SetDetailsFields([]any{map[string]any{"label": "Code", "value": code}})
		}
		challenge, err := backend.twilio.VerifyV2.CreateChallenge(backend.service, identity, params)
		if err != nil {
			return "", err
		}
		backend.remember(*challenge.Sid, Waiting)
		return *challenge.Sid, nil
	}
	return "", errors.New("the user has no verified phone")
}

// State returns the state of a sign-in. A webhook may be lost, so the API decides.
func (backend *Backend) State(identity, login string) (State, error) {
	challenge, err := backend.twilio.VerifyV2.FetchChallenge(backend.service, identity, login)
	if err != nil {
		return "", err
	}
	backend.remember(login, states[*challenge.Status])
	return backend.Known(login), nil
}

// Known returns the state that the backend knows without asking the API.
func (backend *Backend) Known(login string) State {
	backend.mutex.Lock()
	defer backend.mutex.Unlock()
	return backend.known[login]
}

func (backend *Backend) remember(login string, state State) {
	backend.mutex.Lock()
	defer backend.mutex.Unlock()
	backend.known[login] = state
}

func (backend *Backend) receive(response http.ResponseWriter, request *http.Request) {
	backend.mutex.Lock()
	isBroken, delay := backend.isBroken, backend.delay
	backend.mutex.Unlock()
	time.Sleep(delay)
	if isBroken {
		response.WriteHeader(http.StatusInternalServerError)
		return
	}
	if err := request.ParseForm(); err != nil {
		response.WriteHeader(http.StatusBadRequest)
		return
	}
	parameters := map[string]string{}
	for name := range request.PostForm {
		parameters[name] = request.PostForm.Get(name)
	}
	if !backend.validator.Validate(backend.http.URL+"/webhooks", parameters, request.Header.Get("X-Twilio-Signature")) {
		response.WriteHeader(http.StatusForbidden)
		return
	}
	backend.remember(parameters["challenge_sid"], states[strings.TrimPrefix(parameters["type"], "challenge.")])
	response.WriteHeader(http.StatusNoContent)
}
