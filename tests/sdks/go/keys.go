package main

import (
	"os"
	"strings"

	"github.com/twilio/twilio-go"
	api "github.com/twilio/twilio-go/rest/api/v2010"
	iam "github.com/twilio/twilio-go/rest/iam/v1"
)

// account fetches the account, with which many programs check their credentials.
func account(tw *twilio.RestClient) {
	key := clientOf(os.Getenv("API_KEY_SID"), os.Getenv("API_KEY_SECRET"))
	for _, caller := range []*twilio.RestClient{tw, key} {
		fetched := must(caller.Api.FetchAccount(accountSid))
		equal([]string{*fetched.Sid, *fetched.OwnerAccountSid}, []string{accountSid, accountSid})
		equal([]string{*fetched.Status, *fetched.Type, *fetched.AuthToken}, []string{"active", "Full", ""})
		equal(*fetched.Uri, "/2010-04-01/Accounts/"+accountSid+".json")
		keys := (*fetched.SubresourceUris)["keys"]
		equal(keys, "/2010-04-01/Accounts/"+accountSid+"/Keys.json")
	}
	_, err := tw.Api.FetchAccount("AC" + strings.Repeat("0", 32))
	refused(404, 20404, err)
	_, err = clientOf(accountSid, strings.Repeat("f", 32)).Api.FetchAccount(accountSid)
	refused(401, 20003, err)
	ok("account fetch")
}

// apiKeys manages API keys at both of their addresses. The key of the environment exists already.
func apiKeys(tw *twilio.RestClient) {
	made := []string{os.Getenv("API_KEY_SID")}
	secrets := []string{os.Getenv("API_KEY_SECRET")}
	for range 2 {
		key := must(tw.Api.CreateNewKey((&api.CreateNewKeyParams{}).SetFriendlyName("Owls")))
		made, secrets = append(made, *key.Sid), append(secrets, *key.Secret)
	}
	for range 2 {
		params := (&iam.CreateNewKeyParams{}).SetAccountSid(accountSid).SetKeyType("standard")
		key := must(tw.IamV1.CreateNewKey(params))
		equal(*key.FriendlyName, "API key")
		isTrue(key.Policy == nil, "a policy")
		made, secrets = append(made, *key.Sid), append(secrets, *key.Secret)
	}
	_, err := tw.IamV1.CreateNewKey((&iam.CreateNewKeyParams{}).SetAccountSid(accountSid).SetKeyType("restricted"))
	refusal := refused(400, 60306, err)
	isTrue(strings.Contains(refusal.Message, "no restricted API keys"), refusal.Message)
	_, err = clientOf(made[1], secrets[1]).Api.CreateNewKey(&api.CreateNewKeyParams{})
	refused(403, 20403, err)
	ok("API keys create")

	listed := must(tw.Api.ListKey((&api.ListKeyParams{}).SetPageSize(2)))
	equal(sids(listed, func(key api.ApiV2010Key) *string { return key.Sid }), made)
	params := &iam.ListGetKeysParams{}
	own := must(tw.IamV1.ListGetKeys(params.SetAccountSid(accountSid).SetPageSize(2)))
	equal(sids(own, func(key iam.IamV1GetKeys) *string { return key.Sid }), made)
	equal(own[0].Flags, []string{"rest_api"})
	ok("API keys list")

	renamed := must(tw.Api.UpdateKey(made[1], (&api.UpdateKeyParams{}).SetFriendlyName("Barn owls")))
	equal(*renamed.FriendlyName, "Barn owls")
	equal(*must(tw.IamV1.FetchKey(made[1])).FriendlyName, "Barn owls")
	again := must(tw.IamV1.UpdateKey(made[3], (&iam.UpdateKeyParams{}).SetFriendlyName("Snowy owls")))
	equal(*again.FriendlyName, "Snowy owls")
	equal(*must(tw.Api.FetchKey(made[3], &api.FetchKeyParams{})).FriendlyName, "Snowy owls")
	ok("API keys update, fetch")

	for number, sid := range made[1:] {
		if number < 2 {
			check(tw.Api.DeleteKey(sid, &api.DeleteKeyParams{}))
		} else {
			check(tw.IamV1.DeleteKey(sid))
		}
		_, err := tw.IamV1.FetchKey(sid)
		refused(404, 20404, err)
		_, err = clientOf(sid, secrets[number+1]).Api.FetchAccount(accountSid)
		refused(401, 20003, err)
	}
	ok("API keys delete")
}
