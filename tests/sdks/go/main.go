// Every served operation, called through Twilio's own Go library.
//
// The backend's calls use only the library; the phone's key and its signatures are in phone.go.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"time"

	"github.com/twilio/twilio-go"
	"github.com/twilio/twilio-go/client"
	verify "github.com/twilio/twilio-go/rest/verify/v2"
)

var (
	baseURL    = os.Getenv("BASE_URL")
	accountSid = os.Getenv("ACCOUNT_SID")
	authToken  = os.Getenv("AUTH_TOKEN")
)

const identity = "go-user-0001"

// selfHosted sends every request to the server instead of Twilio's hosts, because the library has no setting for it.
type selfHosted struct{ server *url.URL }

func (to selfHosted) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = to.server.Scheme, to.server.Host, to.server.Host
	return http.DefaultTransport.RoundTrip(request)
}

func clientOf(user, password string) *twilio.RestClient {
	server, err := url.Parse(baseURL)
	check(err)
	own := &client.Client{
		Credentials: client.NewCredentials(user, password),
		HTTPClient:  &http.Client{Transport: selfHosted{server}, Timeout: 10 * time.Second},
	}
	own.SetAccountSid(accountSid)
	return twilio.NewRestClientWithParams(twilio.ClientParams{Client: own})
}

func main() {
	fmt.Println("client", "twilio-go", client.LibraryVersion)
	tw := clientOf(accountSid, authToken)
	service := services(tw)
	entities(tw, service)
	accessTokens(tw, service)
	phone, factor, other := factors(tw, service)
	challenges(tw, service, phone, factor, other)
	notifications(tw, service, phone, factor)
	webhooks(tw, service, phone, factor)
	alerts(tw, service)
	credentials(tw, service)
	rateLimits(tw, service)
	messagingConfigurations(tw, service)
	safeList(tw)
	totp(tw, service)
	templates(tw)
	verifications(tw)
	attempts(tw)
	failures(tw, service)
	account(tw)
	apiKeys(tw)
	apiKey(service)

	check(tw.VerifyV2.DeleteEntity(service, identity))
	_, err := tw.VerifyV2.FetchEntity(service, identity)
	refused(404, 20404, err)
	ok("entities delete")
	check(tw.VerifyV2.DeleteService(service))
	_, err = tw.VerifyV2.FetchService(service)
	refused(404, 20404, err)
	ok("services delete")
}

func ok(operation string) {
	fmt.Println("ok", operation)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// must panics if a call fails.
func must[T any](result T, err error) T {
	check(err)
	return result
}

func equal(actual, expected any) {
	if !reflect.DeepEqual(actual, expected) {
		panic(fmt.Sprintf("%#v is not %#v", actual, expected))
	}
}

func isTrue(holds bool, what string) {
	if !holds {
		panic(what)
	}
}

// refused checks that a call returned the library's own error.
func refused(status, code int, err error) *client.TwilioRestError {
	var refusal *client.TwilioRestError
	isTrue(errors.As(err, &refusal), fmt.Sprintf("not refused: %v", err))
	equal([]int{refusal.Status, refusal.Code}, []int{status, code})
	equal(refusal.MoreInfo, fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code))
	isTrue(refusal.Message != "", "no message")
	return refusal
}

// member returns a value of an object that the library does not type.
func member(object *any, name string) any {
	return (*object).(map[string]any)[name]
}

// get sends a plain GET with the library's own connection, for values that its types do not show.
func get(tw *twilio.RestClient, address string) (http.Header, map[string]any) {
	response := must(tw.RequestHandler.Get(address, nil, nil, ""))
	defer response.Body.Close()
	body := map[string]any{}
	check(json.NewDecoder(response.Body).Decode(&body))
	return response.Header, body
}

// sids returns the SIDs of a list.
func sids[T any](list []T, sid func(T) *string) []string {
	texts := []string{}
	for _, item := range list {
		texts = append(texts, *sid(item))
	}
	return texts
}

// among returns the expected SIDs of a list, because other suites may have left resources too.
func among(list []string, own []string) []string {
	kept := []string{}
	for _, text := range list {
		for _, wanted := range own {
			if text == wanted {
				kept = append(kept, text)
			}
		}
	}
	return kept
}

func reversed(list []string) []string {
	turned := []string{}
	for i := range list {
		turned = append(turned, list[len(list)-1-i])
	}
	return turned
}

// received reads a stream to its end.
func received[T any](items chan T, failures chan error) []T {
	list := []T{}
	for item := range items {
		list = append(list, item)
	}
	check(<-failures)
	return list
}

// tokenOf returns the page token in the URL of a page.
func tokenOf(address *string) string {
	parsed := must(url.Parse(*address))
	token := parsed.Query().Get("PageToken")
	isTrue(token != "", "no page token in "+*address)
	return token
}

func serviceSid(service verify.VerifyV2Service) *string       { return service.Sid }
func challengeSid(challenge verify.VerifyV2Challenge) *string { return challenge.Sid }
