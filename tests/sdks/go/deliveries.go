package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/twilio/twilio-go"
	"github.com/twilio/twilio-go/client"
	monitor "github.com/twilio/twilio-go/rest/monitor/v1"
	notify "github.com/twilio/twilio-go/rest/notify/v1"
	verify "github.com/twilio/twilio-go/rest/verify/v2"
)

// call is a request that a webhook receiver got.
type call struct {
	address string
	header  http.Header
	body    []byte
}

// receiver is a backend that receives webhooks and responds to each with the status.
func receiver(status int) (*httptest.Server, chan call) {
	calls := make(chan call, 16)
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		body := must(io.ReadAll(request.Body))
		calls <- call{"http://" + request.Host + request.RequestURI, request.Header, body}
		writer.WriteHeader(status)
	}))
	return server, calls
}

func next(calls chan call) call {
	select {
	case call := <-calls:
		return call
	case <-time.After(20 * time.Second):
		panic("no webhook was delivered")
	}
}

func webhooks(tw *twilio.RestClient, service string, phone Phone, factor string) {
	hook, calls := receiver(http.StatusOK)
	defer hook.Close()
	made := []string{}
	for number := range 5 {
		params := &verify.CreateWebhookParams{}
		params.SetFriendlyName(fmt.Sprintf("Hook %d", number)).SetEventTypes([]string{"factor.created", "factor.deleted"})
		params.SetWebhookUrl("https://backend.example/hook?tenant=7").SetStatus("disabled").SetVersion("v1")
		webhook := must(tw.VerifyV2.CreateWebhook(service, params))
		made = append(made, *webhook.Sid)
		isTrue(strings.HasPrefix(*webhook.Sid, "YW"), *webhook.Sid)
		equal(*webhook.EventTypes, []string{"factor.created", "factor.deleted"})
		equal([]string{*webhook.Status, *webhook.Version, *webhook.WebhookMethod}, []string{"disabled", "v1", "POST"})
		equal(*webhook.WebhookUrl, "https://backend.example/hook?tenant=7")
	}
	unusable := (&verify.CreateWebhookParams{}).SetFriendlyName("Hook").SetEventTypes([]string{"*"})
	_, err := tw.VerifyV2.CreateWebhook(service, unusable.SetWebhookUrl("ftp://backend.example/hook"))
	refused(400, 60306, err)
	ok("webhooks create")

	listed := must(tw.VerifyV2.ListWebhook(service, (&verify.ListWebhookParams{}).SetPageSize(2)))
	equal(sids(listed, func(webhook verify.VerifyV2Webhook) *string { return webhook.Sid }), made)
	ok("webhooks list")
	for _, sid := range made[1:] {
		check(tw.VerifyV2.DeleteWebhook(service, sid))
		_, err := tw.VerifyV2.FetchWebhook(service, sid)
		refused(404, 20404, err)
	}
	ok("webhooks delete")
	change := (&verify.UpdateWebhookParams{}).SetStatus("enabled").SetVersion("v2").SetWebhookUrl(hook.URL + "/hook?tenant=7")
	updated := must(tw.VerifyV2.UpdateWebhook(service, made[0], change.SetEventTypes([]string{"challenge.approved"})))
	equal([]string{*updated.Status, *updated.Version, *updated.FriendlyName}, []string{"enabled", "v2", "Hook 0"})
	ok("webhooks update")
	fetched := must(tw.VerifyV2.FetchWebhook(service, made[0]))
	equal(*fetched.EventTypes, []string{"challenge.approved"})
	equal(*fetched.WebhookUrl, hook.URL+"/hook?tenant=7")
	ok("webhooks fetch")

	challenge := ask(tw, service, factor)
	must(answered(tw, service, challenge, phone, "approved"))
	event := next(calls)
	signature := event.header.Get("X-Twilio-Signature")
	validator := client.NewRequestValidator(authToken)
	isTrue(validator.ValidateBody(event.address, event.body, signature), "the signature is not valid")
	told := map[string]string{}
	for name, values := range must(url.ParseQuery(string(event.body))) {
		equal(len(values), 1)
		told[name] = values[0]
	}
	isTrue(validator.Validate(event.address, told, signature), "the signature is not valid")
	stranger := client.NewRequestValidator(strings.Repeat("f", 32))
	isTrue(!stranger.ValidateBody(event.address, event.body, signature), "any signature is valid")
	equal([]string{told["type"], told["challenge_sid"], told["factor_sid"]}, []string{"challenge.approved", challenge, factor})
	equal([]string{told["account_sid"], told["service_sid"], told["entity_identity"]}, []string{accountSid, service, identity})
	ok("webhooks delivered")
	check(tw.VerifyV2.DeleteWebhook(service, made[0]))
}

func alerts(tw *twilio.RestClient, service string) {
	hook, calls := receiver(http.StatusNotFound)
	defer hook.Close()
	params := &verify.CreateWebhookParams{}
	params.SetFriendlyName("Gone").SetEventTypes([]string{"factor.created"}).SetWebhookUrl(hook.URL + "/gone")
	webhook := *must(tw.VerifyV2.CreateWebhook(service, params)).Sid
	since := time.Now().Add(-time.Minute)
	for number := range 5 {
		factor := newFactor(newPhone(), fmt.Sprintf("Unheard of %d", number))
		must(tw.VerifyV2.CreateNewFactor(service, identity, factor))
		next(calls)
	}

	list := func() *monitor.ListAlertParams { return (&monitor.ListAlertParams{}).SetPageSize(2) }
	own := func(params *monitor.ListAlertParams) []monitor.MonitorV1Alert {
		kept := []monitor.MonitorV1Alert{}
		for _, alert := range must(tw.MonitorV1.ListAlert(params)) {
			if alert.ServiceSid != nil && *alert.ServiceSid == service && *alert.ErrorCode == "11200" {
				kept = append(kept, alert)
			}
		}
		return kept
	}
	// An alert is stored only after the receiver has responded.
	found := own(list())
	for tries := 0; len(found) < 5 && tries < 100; tries++ {
		time.Sleep(100 * time.Millisecond)
		found = own(list())
	}
	equal(len(found), 5)
	for i := range found[1:] {
		isTrue(!found[i].DateCreated.Before(*found[i+1].DateCreated), "not the newest first")
	}
	equal(len(own(list().SetLogLevel("error").SetStartDate(since).SetEndDate(time.Now().Add(time.Minute)))), 5)
	equal(len(own(list().SetLogLevel("debug"))), 0)
	equal(len(own(list().SetEndDate(since.AddDate(0, 0, -1)))), 0)
	equal(len(must(tw.MonitorV1.ListAlert(list().SetLimit(3)))), 3)
	ok("alerts list")

	alert := must(tw.MonitorV1.FetchAlert(*found[0].Sid))
	isTrue(strings.HasPrefix(*alert.Sid, "NO"), *alert.Sid)
	equal([]string{*alert.ErrorCode, *alert.LogLevel, *alert.AccountSid}, []string{"11200", "error", accountSid})
	equal([]string{*alert.RequestMethod, *alert.RequestUrl}, []string{"POST", hook.URL + "/gone"})
	isTrue(strings.Contains(*alert.RequestVariables, "type=factor.created"), *alert.RequestVariables)
	_, err := tw.MonitorV1.FetchAlert("NO" + strings.Repeat("0", 32))
	refused(404, 20404, err)
	ok("alerts fetch")
	check(tw.VerifyV2.DeleteWebhook(service, webhook))
}

// serviceAccount returns a Google service account file with a generated key.
func serviceAccount() string {
	key := must(x509.MarshalPKCS8PrivateKey(must(rsa.GenerateKey(rand.Reader, 2048))))
	return string(must(json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     "owl-bank",
		"private_key_id": "0123456789abcdef0123456789abcdef01234567",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"client_email":   "push@owl-bank.iam.gserviceaccount.com",
		"client_id":      "100000000000000000001",
		"token_uri":      "https://oauth2.googleapis.com/token",
	})))
}

func credentials(tw *twilio.RestClient, service string) {
	secret := serviceAccount()
	made := []string{}
	for number := range 5 {
		params := &notify.CreateCredentialParams{}
		params.SetType("fcm").SetFriendlyName(fmt.Sprintf("Google %d", number)).SetSecret(secret)
		credential := must(tw.NotifyV1.CreateCredential(params))
		made = append(made, *credential.Sid)
		isTrue(strings.HasPrefix(*credential.Sid, "CR"), *credential.Sid)
		equal([]string{*credential.Type, *credential.AccountSid}, []string{"fcm", accountSid})
	}
	_, err := tw.NotifyV1.CreateCredential((&notify.CreateCredentialParams{}).SetType("fcm").SetSecret("{}"))
	refused(400, 60306, err)
	ok("credentials create")
	listed := must(tw.NotifyV1.ListCredential((&notify.ListCredentialParams{}).SetPageSize(2)))
	equal(among(sids(listed, func(credential notify.NotifyV1Credential) *string { return credential.Sid }), made), made)
	ok("credentials list")
	change := (&notify.UpdateCredentialParams{}).SetFriendlyName("Google").SetSecret(serviceAccount())
	equal(*must(tw.NotifyV1.UpdateCredential(made[0], change)).FriendlyName, "Google")
	ok("credentials update")
	fetched := must(tw.NotifyV1.FetchCredential(made[0]))
	equal(*fetched.FriendlyName, "Google")
	equal(*fetched.Url, baseURL+"/v1/Credentials/"+made[0])
	ok("credentials fetch")

	named := must(tw.VerifyV2.UpdateService(service, (&verify.UpdateServiceParams{}).SetPushFcmCredentialSid(made[0])))
	equal(member(named.Push, "fcm_credential_sid"), made[0])
	cleared := must(tw.VerifyV2.UpdateService(service, (&verify.UpdateServiceParams{}).SetPushFcmCredentialSid("")))
	equal(member(cleared.Push, "fcm_credential_sid"), nil)
	ok("credentials named in a service")
	for _, sid := range made {
		check(tw.NotifyV1.DeleteCredential(sid))
		_, err := tw.NotifyV1.FetchCredential(sid)
		refused(404, 20404, err)
	}
	ok("credentials delete")
}
