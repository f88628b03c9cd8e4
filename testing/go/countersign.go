package countersigntest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	defaultWait   = 5 * time.Second
	shownCaptures = 5
)

// Countersign is an account on a server in test mode, with a service. Parallel subtests can share it.
type Countersign struct {
	Server       *Server           `json:"-"`
	URL          string            `json:"-"`
	AccountSid   string            `json:"account_sid"`
	AuthToken    string            `json:"auth_token"`
	APIKeySid    string            `json:"api_key_sid"`
	APIKeySecret string            `json:"api_key_secret"`
	ServiceSid   string            `json:"-"`
	Clock        Clock             `json:"-"`
	Chaos        Chaos             `json:"-"`
	Pushes       Captures[Push]    `json:"-"`
	Webhooks     Captures[Webhook] `json:"-"`
	mutex        sync.Mutex
	devices      []*Device
}

// Start returns a new account on the server of [Main]. If the package does not use Main, that is the server of
// COUNTERSIGN_URL, else a server of its own. If the test fails, its output ends with the logs of the phones and the last
// captures.
func Start(t testing.TB) *Countersign {
	t.Helper()
	if shared != nil {
		return newAccount(t, shared)
	}
	if os.Getenv(urlVariable) != "" {
		server, err := sharedServer()
		check(t, err)
		return newAccount(t, server)
	}
	return StartServer(t)
}

// StartServer returns a new account on a server of its own, which ends with the test. Its clock and chaos can be used.
func StartServer(t testing.TB) *Countersign {
	t.Helper()
	server, err := NewServer()
	check(t, err)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return newAccount(t, server)
}

func newAccount(t testing.TB, server *Server) *Countersign {
	t.Helper()
	created := &Countersign{Server: server, URL: server.URL, Clock: Clock{server}, Chaos: Chaos{server}}
	name := []rune(t.Name())
	body := map[string]string{"friendly_name": string(name[:min(len(name), 64)])}
	check(t, server.Request("POST", "/accounts", body, created, 0))
	created.Pushes = Captures[Push]{created, "pushes"}
	created.Webhooks = Captures[Webhook]{created, "webhooks"}
	created.ServiceSid = created.CreateService(t, "Test service")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Countersign: %s", created.Report())
		}
	})
	return created
}

// CreateService creates a further service and returns its SID.
func (cs *Countersign) CreateService(t testing.TB, friendlyName string) string {
	t.Helper()
	var service struct{ Sid string }
	parameters := url.Values{"FriendlyName": {friendlyName}}
	check(t, cs.Server.api(cs.AccountSid, cs.AuthToken, "/v2/Services", parameters, &service))
	return service.Sid
}

// HTTPClient returns a client that sends every request to this server, whatever its host. Twilio's library has no
// setting for the address, but takes such a client.
func (cs *Countersign) HTTPClient() *http.Client {
	server, err := url.Parse(cs.URL)
	if err != nil {
		// The server's own line had this address.
		panic(err)
	}
	return &http.Client{Transport: redirection{server}, Timeout: requestTimeout}
}

type redirection struct{ server *url.URL }

func (to redirection) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = to.server.Scheme, to.server.Host, to.server.Host
	return direct.RoundTrip(request)
}

// Device enrolls a phone for the user identity in the account's service.
func (cs *Countersign) Device(t testing.TB, identity string, behaviour Behaviour) *Device {
	t.Helper()
	return cs.Enroll(t, NewDevice{Identity: identity, Behaviour: behaviour})
}

// Enroll enrolls a phone with further properties.
func (cs *Countersign) Enroll(t testing.TB, properties NewDevice) *Device {
	t.Helper()
	properties.AccountSid = cs.AccountSid
	if properties.ServiceSid == "" {
		properties.ServiceSid = cs.ServiceSid
	}
	if properties.Behaviour == nil {
		properties.Behaviour = Ignore
	}
	device := &Device{server: cs.Server}
	check(t, cs.Server.Request("POST", "/devices", properties, device, 0))
	cs.mutex.Lock()
	defer cs.mutex.Unlock()
	cs.devices = append(cs.devices, device)
	return device
}

// Report returns the logs of the account's phones and its last captures.
func (cs *Countersign) Report() string {
	cs.mutex.Lock()
	devices := slices.Clone(cs.devices)
	cs.mutex.Unlock()
	lines := []string{fmt.Sprintf("%s, account %s", cs.URL, cs.AccountSid)}
	for _, device := range devices {
		lines = append(lines, fmt.Sprintf("log of the phone of %s, factor %s", device.Identity, device.FactorSid))
		steps, err := device.readLog()
		lines = append(lines, shown(steps, err)...)
	}
	pushes, err := cs.Pushes.read(Filter{Limit: shownCaptures}, 0)
	lines = append(append(lines, "last pushes"), shown(pushes, err)...)
	webhooks, err := cs.Webhooks.read(Filter{Limit: shownCaptures}, 0)
	lines = append(append(lines, "last webhooks"), shown(webhooks, err)...)
	return strings.Join(lines, "\n")
}

func shown[Item fmt.Stringer](items []Item, err error) []string {
	if err != nil {
		return []string{"  not available: " + err.Error()}
	}
	if len(items) == 0 {
		return []string{"  none"}
	}
	lines := []string{}
	for _, item := range items {
		lines = append(lines, "  "+item.String())
	}
	return lines
}

func words(parts ...any) string {
	found := []string{}
	for _, part := range parts {
		if text := fmt.Sprint(part); text != "" && text != "0" {
			found = append(found, text)
		}
	}
	return strings.Join(found, " ")
}

// Behaviour is what a phone does with challenges: a [Do], or a [Plan].
type Behaviour interface{ isBehaviour() }

// Do is what a phone does with one challenge.
type Do string

// What a phone can do.
const (
	Approve        Do = "approve"
	Deny           Do = "deny"
	Ignore         Do = "ignore"
	Late           Do = "late"
	Twice          Do = "twice"
	WrongSignature Do = "wrong_signature"
	Tampered       Do = "tampered"
	StaleToken     Do = "stale_token"
	WrongClock     Do = "wrong_clock"
	LostAnswer     Do = "lost_answer"
	Uninstall      Do = "uninstall"
	Offline        Do = "offline"
)

func (Do) isBehaviour() {}

// Plan says what a phone does with which challenge: the first rule that fits, else the next act of the script, else the
// default.
type Plan struct {
	Default *Act   `json:"default,omitempty"`
	Script  []Act  `json:"script,omitempty"`
	Rules   []Rule `json:"rules,omitempty"`
}

func (Plan) isBehaviour() {}

// After returns the plan of a phone that does this with every challenge after a delay.
func After(delay time.Duration, do Do) Plan {
	return Plan{Default: &Act{Do: do, After: delay}}
}

// Act is one act of a phone.
type Act struct {
	Do    Do
	After time.Duration
}

// MarshalJSON writes the delay in seconds.
func (act Act) MarshalJSON() ([]byte, error) {
	body := map[string]any{"do": act.Do}
	if act.After > 0 {
		body["after"] = act.After.Seconds()
	}
	return json.Marshal(body)
}

// Rule says what a phone does with challenges that fit.
type Rule struct {
	When When
	Act  Act
}

// MarshalJSON writes condition and act as one object.
func (rule Rule) MarshalJSON() ([]byte, error) {
	body := map[string]any{"when": rule.When, "do": rule.Act.Do}
	if rule.Act.After > 0 {
		body["after"] = rule.Act.After.Seconds()
	}
	return json.Marshal(body)
}

// When is a condition of regular expressions, all of which must match.
type When struct {
	Message string            `json:"message,omitempty"`
	Field   map[string]string `json:"field,omitempty"`
	Hidden  map[string]string `json:"hidden,omitempty"`
}

// NewDevice are the properties of a phone to be enrolled. Only Identity is required.
type NewDevice struct {
	AccountSid   string            `json:"account_sid"`
	ServiceSid   string            `json:"service_sid"`
	Identity     string            `json:"identity"`
	AccessToken  string            `json:"access_token,omitempty"`
	FriendlyName string            `json:"friendly_name,omitempty"`
	Style        string            `json:"style,omitempty"`
	Push         string            `json:"push,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	Behaviour    Behaviour         `json:"behaviour"`
}

// Device is a phone of the server.
type Device struct {
	ID            string            `json:"id"`
	AccountSid    string            `json:"account_sid"`
	ServiceSid    string            `json:"service_sid"`
	Identity      string            `json:"identity"`
	FactorSid     string            `json:"factor_sid"`
	CredentialSid string            `json:"credential_sid"`
	Status        string            `json:"status"`
	PublicKey     string            `json:"public_key"`
	Key           map[string]string `json:"key"`
	Pending       []string          `json:"pending"`
	server        *Server
}

// Approve approves the newest pending challenge, for which it waits up to five seconds, and returns it as the phone
// shows it.
func (device *Device) Approve(t testing.TB) Challenge {
	t.Helper()
	challenge, err := device.Answer(Approve, "", defaultWait)
	check(t, err)
	return challenge
}

// Deny denies a challenge, otherwise like Approve.
func (device *Device) Deny(t testing.TB) Challenge {
	t.Helper()
	challenge, err := device.Answer(Deny, "", defaultWait)
	check(t, err)
	return challenge
}

// Answer approves or denies a challenge; without a SID, the newest pending one, for which it waits. The error is a
// [*RequestError] if the API refuses the answer.
func (device *Device) Answer(answer Do, challengeSid string, wait time.Duration) (Challenge, error) {
	body := map[string]any{"wait": wait.Seconds()}
	if challengeSid != "" {
		body["challenge_sid"] = challengeSid
	}
	var challenge Challenge
	err := device.server.Request("POST", fmt.Sprintf("/devices/%s/%s", device.ID, answer), body, &challenge, wait)
	return challenge, err
}

// Behave replaces the behaviour.
func (device *Device) Behave(t testing.TB, behaviour Behaviour) {
	t.Helper()
	check(t, device.server.Request("PATCH", "/devices/"+device.ID, map[string]any{"behaviour": behaviour}, device, 0))
}

// Refresh reads the device again, for example its status and its pending challenges.
func (device *Device) Refresh(t testing.TB) {
	t.Helper()
	check(t, device.server.Request("GET", "/devices/"+device.ID, nil, device, 0))
}

// Delete deletes the factor and the phone, as an app does when its user signs out.
func (device *Device) Delete(t testing.TB) {
	t.Helper()
	check(t, device.server.Request("DELETE", "/devices/"+device.ID, nil, nil, 0))
}

// Log returns the steps of this phone, oldest first.
func (device *Device) Log(t testing.TB) []Step {
	t.Helper()
	steps, err := device.readLog()
	check(t, err)
	return steps
}

func (device *Device) readLog() ([]Step, error) {
	steps := []Step{}
	err := device.server.Request("GET", "/devices/"+device.ID+"/log", nil, &steps, 0)
	return steps, err
}

// Step is one step in the log of a phone.
type Step struct {
	At           string `json:"at"`
	What         string `json:"what"`
	ChallengeSid string `json:"challenge_sid"`
	Do           Do     `json:"do"`
	Status       int    `json:"status"`
	Code         int    `json:"code"`
	Words        string `json:"words"`
}

func (step Step) String() string {
	return words(step.At, step.What, step.ChallengeSid, step.Do, step.Status, step.Code, step.Words)
}

// Challenge is a challenge as a phone shows it.
type Challenge struct {
	Sid     string `json:"sid"`
	Status  string `json:"status"`
	Details struct {
		Message string `json:"message"`
		Fields  []struct {
			Label string `json:"label"`
			Value string `json:"value"`
		} `json:"fields"`
	} `json:"details"`
}

// Field returns the value of the field with this label in any case, for example the number to be typed. It returns an
// empty text if there is none.
func (challenge Challenge) Field(label string) string {
	for _, field := range challenge.Details.Fields {
		if strings.EqualFold(field.Label, label) {
			return field.Value
		}
	}
	return ""
}
