package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/twilio/twilio-go"
	verify "github.com/twilio/twilio-go/rest/verify/v2"
)

const totpIdentity = "go-totp-0001"

// codeOf returns the code so many time steps after the current one, with the settings of RFC 6238.
func codeOf(secret string, steps int64) string {
	key := must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret))
	tag := hmac.New(sha1.New, key)
	check(binary.Write(tag, binary.BigEndian, time.Now().Unix()/30+steps))
	sum := tag.Sum(nil)
	number := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&15:]) & 0x7fffffff
	return fmt.Sprintf("%06d", number%1_000_000)
}

// wrongCode returns a code that is wrong for some minutes.
func wrongCode(secret string) string {
	near := map[string]bool{}
	for step := int64(-10); step <= 10; step++ {
		near[codeOf(secret, step)] = true
	}
	number := 0
	for near[fmt.Sprintf("%06d", number)] {
		number++
	}
	return fmt.Sprintf("%06d", number)
}

// totp signs in with codes of an authenticator app.
func totp(tw *twilio.RestClient, service string) {
	params := &verify.CreateNewFactorParams{}
	params.SetFriendlyName("Ada: phone & co").SetFactorType("totp").SetConfigAlg("sha1").SetConfigSkew(2)
	factor := must(tw.VerifyV2.CreateNewFactor(service, totpIdentity, params))
	isTrue(strings.HasPrefix(*factor.Sid, "YF02"), *factor.Sid)
	equal([]string{*factor.Status, *factor.FactorType}, []string{"unverified", "totp"})
	equal(*factor.Config, any(map[string]any{"alg": "sha1", "skew": 2.0, "code_length": 6.0, "time_step": 30.0}))
	secret, address := member(factor.Binding, "secret").(string), member(factor.Binding, "uri").(string)
	uri := must(url.Parse(address))
	equal([]string{uri.Scheme, uri.Host, uri.Query().Get("secret")}, []string{"otpauth", "totp", secret})
	isTrue(strings.HasSuffix(uri.Path, ":Ada: phone & co"), uri.Path)
	again := (&verify.CreateNewFactorParams{}).SetFriendlyName("Copy").SetFactorType("totp").SetBindingSecret(secret)
	_, err := tw.VerifyV2.CreateNewFactor(service, totpIdentity, again)
	refused(409, 60317, err)
	ok("factors create, of TOTP")

	update := func(code string) string {
		update := (&verify.UpdateFactorParams{}).SetAuthPayload(code)
		return *must(tw.VerifyV2.UpdateFactor(service, totpIdentity, *factor.Sid, update)).Status
	}
	equal(update(wrongCode(secret)), "unverified")
	equal(update(codeOf(secret, -1)), "verified")
	ok("factors verify, of TOTP")

	create := func(code string) *verify.VerifyV2Challenge {
		params := (&verify.CreateChallengeParams{}).SetFactorSid(*factor.Sid).SetAuthPayload(code)
		return must(tw.VerifyV2.CreateChallenge(service, totpIdentity, params))
	}
	code := codeOf(secret, 0)
	approved := create(code)
	equal([]string{*approved.Status, *approved.FactorType}, []string{"approved", "totp"})
	isTrue(approved.DateResponded != nil, "no date of the response")
	pending := create(code)
	equal(*pending.Status, "pending")
	answer := (&verify.UpdateChallengeParams{}).SetAuthPayload(codeOf(secret, 1))
	equal(*must(tw.VerifyV2.UpdateChallenge(service, totpIdentity, *pending.Sid, answer)).Status, "approved")
	_, err = tw.VerifyV2.UpdateChallenge(service, totpIdentity, *pending.Sid, answer)
	refused(403, 60322, err)
	ok("challenges with codes")
	check(tw.VerifyV2.DeleteEntity(service, totpIdentity))
}
