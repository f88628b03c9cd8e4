package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twilio/twilio-go"
	verify "github.com/twilio/twilio-go/rest/verify/v2"
)

// services creates one service that stays.
func services(tw *twilio.RestClient) string {
	made := []string{}
	for number := range 5 {
		params := &verify.CreateServiceParams{}
		params.SetFriendlyName(fmt.Sprintf("Owl Bank %d", number))
		service := must(tw.VerifyV2.CreateService(params))
		made = append(made, *service.Sid)
		isTrue(strings.HasPrefix(*service.Sid, "VA"), *service.Sid)
		equal(*service.AccountSid, accountSid)
		equal(*service.Url, baseURL+"/v2/Services/"+*service.Sid)
		equal(member(service.Push, "include_date"), false)
		isTrue(time.Since(*service.DateCreated).Abs() < 5*time.Minute, service.DateCreated.String())
	}
	ok("services create")

	// With two items a page the library must follow the server's links at least twice.
	params := &verify.ListServiceParams{}
	listed := must(tw.VerifyV2.ListService(params.SetPageSize(2)))
	equal(among(sids(listed, serviceSid), made), made)
	equal(len(must(tw.VerifyV2.ListService((&verify.ListServiceParams{}).SetPageSize(2).SetLimit(3)))), 3)
	equal(len(must(tw.VerifyV2.ListService((&verify.ListServiceParams{}).SetLimit(3)))), 3)
	ok("services list")

	for _, sid := range made[1:] {
		check(tw.VerifyV2.DeleteService(sid))
		_, err := tw.VerifyV2.FetchService(sid)
		refused(404, 20404, err)
	}
	change := &verify.UpdateServiceParams{}
	updated := must(tw.VerifyV2.UpdateService(made[0], change.SetFriendlyName("Barn Owl Bank").SetPushIncludeDate(true)))
	equal(*updated.FriendlyName, "Barn Owl Bank")
	equal(member(updated.Push, "include_date"), true)
	ok("services update")
	equal(*must(tw.VerifyV2.FetchService(made[0])).FriendlyName, "Barn Owl Bank")
	ok("services fetch")
	return made[0]
}

// entities creates the entity of the identity, which stays.
func entities(tw *twilio.RestClient, service string) {
	create := func(identity string) (*verify.VerifyV2Entity, error) {
		params := &verify.CreateEntityParams{}
		return tw.VerifyV2.CreateEntity(service, params.SetIdentity(identity))
	}
	identities := []string{}
	for number := range 5 {
		made := must(create(fmt.Sprintf("go-user-%04d", number+1)))
		isTrue(strings.HasPrefix(*made.Sid, "YE"), *made.Sid)
		identities = append(identities, *made.Identity)
	}
	equal(identities[0], identity)
	_, err := create(identity)
	refused(409, 60301, err)
	_, err = create("short")
	refused(400, 60306, err)
	ok("entities create")

	name := func(entity verify.VerifyV2Entity) *string { return entity.Identity }
	listed := must(tw.VerifyV2.ListEntity(service, (&verify.ListEntityParams{}).SetPageSize(2)))
	equal(sids(listed, name), identities)
	streamed := received(tw.VerifyV2.StreamEntity(service, (&verify.ListEntityParams{}).SetPageSize(2).SetLimit(4)))
	equal(sids(streamed, name), identities[:4])
	ok("entities list")

	for _, other := range identities[1:] {
		check(tw.VerifyV2.DeleteEntity(service, other))
		_, err := tw.VerifyV2.FetchEntity(service, other)
		refused(404, 20404, err)
	}
	equal(*must(tw.VerifyV2.FetchEntity(service, identity)).ServiceSid, service)
	ok("entities fetch")
}

func accessTokens(tw *twilio.RestClient, service string) {
	params := &verify.CreateAccessTokenParams{}
	params.SetIdentity(identity).SetFactorType("push").SetFactorFriendlyName("Go's phone").SetTtl(120)
	made := must(tw.VerifyV2.CreateAccessToken(service, params))
	isTrue(strings.HasPrefix(*made.Sid, "YK"), *made.Sid)
	equal([]any{*made.EntityIdentity, *made.FactorType, made.Ttl}, []any{identity, "push", 120})
	equal(*made.FactorFriendlyName, "Go's phone")
	ok("access tokens create")
	fetched := must(tw.VerifyV2.FetchAccessToken(service, *made.Sid))
	equal(*fetched.Token, *made.Token)
	equal(*fetched.Url, baseURL+"/v2/Services/"+service+"/AccessTokens/"+*made.Sid)
	_, err := tw.VerifyV2.FetchAccessToken(service, "YK"+strings.Repeat("0", 32))
	refused(404, 20404, err)
	ok("access tokens fetch")
}

func rateLimits(tw *twilio.RestClient, service string) {
	create := func(name string) (*verify.VerifyV2RateLimit, error) {
		params := &verify.CreateRateLimitParams{}
		return tw.VerifyV2.CreateRateLimit(service, params.SetUniqueName(name).SetDescription("Per address"))
	}
	made := []string{}
	for number := range 5 {
		limit := must(create(fmt.Sprintf("limit.%d", number)))
		isTrue(strings.HasPrefix(*limit.Sid, "RK"), *limit.Sid)
		equal(*limit.Description, "Per address")
		made = append(made, *limit.Sid)
	}
	_, err := create("limit.0")
	refused(400, 60208, err)
	_, err = create("limit 0")
	refused(400, 60209, err)
	ok("rate limits create")
	listed := must(tw.VerifyV2.ListRateLimit(service, (&verify.ListRateLimitParams{}).SetPageSize(2)))
	equal(sids(listed, func(limit verify.VerifyV2RateLimit) *string { return limit.Sid }), made)
	ok("rate limits list")
	equal(*must(tw.VerifyV2.FetchRateLimit(service, "limit.0")).Sid, made[0])
	ok("rate limits fetch")
	change := (&verify.UpdateRateLimitParams{}).SetDescription("Per user")
	equal(*must(tw.VerifyV2.UpdateRateLimit(service, made[0], change)).Description, "Per user")
	ok("rate limits update")
	buckets(tw, service, made[0])
	for _, sid := range made {
		check(tw.VerifyV2.DeleteRateLimit(service, sid))
		_, err := tw.VerifyV2.FetchRateLimit(service, sid)
		refused(404, 20404, err)
	}
	ok("rate limits delete")
}

func buckets(tw *twilio.RestClient, service, limit string) {
	create := func(most, interval int) (*verify.VerifyV2Bucket, error) {
		params := &verify.CreateBucketParams{}
		return tw.VerifyV2.CreateBucket(service, limit, params.SetMax(most).SetInterval(interval))
	}
	made := []string{}
	for number := range 5 {
		bucket := must(create(4, 60+number))
		isTrue(strings.HasPrefix(*bucket.Sid, "BL"), *bucket.Sid)
		equal([]any{bucket.Max, bucket.Interval, *bucket.RateLimitSid}, []any{4, 60 + number, limit})
		made = append(made, *bucket.Sid)
	}
	_, err := create(5, 60)
	refused(400, 60211, err)
	_, err = create(0, 1)
	equal(refused(400, 60200, err).Message, "Invalid parameter: Max")
	ok("buckets create")
	listed := must(tw.VerifyV2.ListBucket(service, limit, (&verify.ListBucketParams{}).SetPageSize(2)))
	equal(sids(listed, func(bucket verify.VerifyV2Bucket) *string { return bucket.Sid }), made)
	ok("buckets list")
	equal(must(tw.VerifyV2.FetchBucket(service, limit, made[0])).Interval, 60)
	ok("buckets fetch")
	change := (&verify.UpdateBucketParams{}).SetMax(9).SetInterval(3600)
	changed := must(tw.VerifyV2.UpdateBucket(service, limit, made[0], change))
	equal([]int{changed.Max, changed.Interval}, []int{9, 3600})
	ok("buckets update")
	check(tw.VerifyV2.DeleteBucket(service, limit, made[0]))
	_, err = tw.VerifyV2.FetchBucket(service, limit, made[0])
	refused(404, 20404, err)
	ok("buckets delete")
}

func messagingConfigurations(tw *twilio.RestClient, service string) {
	outlet, other := "MG"+strings.Repeat("0", 32), "MG"+strings.Repeat("1", 32)
	create := func(country string) (*verify.VerifyV2MessagingConfiguration, error) {
		params := &verify.CreateMessagingConfigurationParams{}
		params.SetCountry(country).SetMessagingServiceSid(outlet)
		return tw.VerifyV2.CreateMessagingConfiguration(service, params)
	}
	countries := []string{"AT", "DE", "CH", "FR", "all"}
	for _, country := range countries {
		made := must(create(country))
		equal([]string{*made.Country, *made.MessagingServiceSid}, []string{country, outlet})
	}
	_, err := create("AT")
	refused(400, 60213, err)
	ok("messaging configurations create")
	params := (&verify.ListMessagingConfigurationParams{}).SetPageSize(2)
	listed := must(tw.VerifyV2.ListMessagingConfiguration(service, params))
	country := func(configuration verify.VerifyV2MessagingConfiguration) *string { return configuration.Country }
	equal(sids(listed, country), countries)
	ok("messaging configurations list")
	equal(*must(tw.VerifyV2.FetchMessagingConfiguration(service, "all")).Country, "all")
	ok("messaging configurations fetch")
	change := (&verify.UpdateMessagingConfigurationParams{}).SetMessagingServiceSid(other)
	equal(*must(tw.VerifyV2.UpdateMessagingConfiguration(service, "AT", change)).MessagingServiceSid, other)
	ok("messaging configurations update")
	for _, country := range countries {
		check(tw.VerifyV2.DeleteMessagingConfiguration(service, country))
		_, err := tw.VerifyV2.FetchMessagingConfiguration(service, country)
		refused(404, 20404, err)
	}
	ok("messaging configurations delete")
}

func safeList(tw *twilio.RestClient) {
	const number = "+4366412345678"
	create := func(number string) (*verify.VerifyV2Safelist, error) {
		params := &verify.CreateSafelistParams{}
		return tw.VerifyV2.CreateSafelist(params.SetPhoneNumber(number))
	}
	made := must(create(number))
	isTrue(strings.HasPrefix(*made.Sid, "GN"), *made.Sid)
	_, err := create(number)
	refused(409, 60411, err)
	_, err = create("0664")
	refused(400, 60306, err)
	ok("safe list create")
	equal(*must(tw.VerifyV2.FetchSafelist(number)).Sid, *made.Sid)
	ok("safe list fetch")
	check(tw.VerifyV2.DeleteSafelist(number))
	_, err = tw.VerifyV2.FetchSafelist(number)
	refused(404, 20404, err)
	ok("safe list delete")
	form := must(tw.VerifyV2.FetchForm("form-push"))
	equal(*form.FormType, "form-push")
	isTrue(member(form.Forms, "create_factor") != nil, "no form")
	ok("forms fetch")
}

// newFactor returns the parameters of a push factor without a push platform.
func newFactor(phone Phone, name string) *verify.CreateNewFactorParams {
	params := &verify.CreateNewFactorParams{}
	params.SetFriendlyName(name).SetFactorType("push").SetBindingAlg("ES256").SetBindingPublicKey(phone.publicKey())
	return params.SetConfigAppId("com.example.app").SetConfigSdkVersion("1.0").SetConfigNotificationPlatform("none")
}

// factors creates two verified factors that stay, and returns the first with its phone.
func factors(tw *twilio.RestClient, service string) (Phone, string, string) {
	phones, made := []Phone{}, []string{}
	for number := range 5 {
		phone := newPhone()
		params := newFactor(phone, fmt.Sprintf("Phone %d", number))
		if number == 0 {
			params.SetConfigNotificationPlatform("fcm").SetConfigNotificationToken(strings.Repeat("t", 64))
			params.SetMetadata(map[string]string{"os": "Go"})
		}
		factor := must(tw.VerifyV2.CreateNewFactor(service, identity, params))
		isTrue(strings.HasPrefix(*factor.Sid, "YF"), *factor.Sid)
		equal([]string{*factor.Status, *factor.FactorType, *factor.Identity}, []string{"unverified", "push", identity})
		equal(*factor.Binding, any(map[string]any{"alg": "ES256", "public_key": phone.publicKey()}))
		if number == 0 {
			equal(*factor.Metadata, any(map[string]any{"os": "Go"}))
			equal(member(factor.Config, "notification_token"), strings.Repeat("t", 64))
		}
		phones, made = append(phones, phone), append(made, *factor.Sid)
	}
	_, err := tw.VerifyV2.CreateNewFactor(service, identity, newFactor(phones[0], "Phone 0"))
	refused(409, 60317, err)
	ok("factors create")

	listed := must(tw.VerifyV2.ListFactor(service, identity, (&verify.ListFactorParams{}).SetPageSize(2)))
	equal(sids(listed, func(factor verify.VerifyV2Factor) *string { return factor.Sid }), made)
	ok("factors list")

	update := func(sid string, params *verify.UpdateFactorParams) (*verify.VerifyV2Factor, error) {
		return tw.VerifyV2.UpdateFactor(service, identity, sid, params)
	}
	early := &verify.CreateChallengeParams{}
	_, err = tw.VerifyV2.CreateChallenge(service, identity, early.SetFactorSid(made[0]).SetDetailsMessage("Too early?"))
	refused(403, 60318, err)
	_, err = update(made[0], (&verify.UpdateFactorParams{}).SetAuthPayload(phones[1].proof(made[0])))
	refused(403, 60311, err)
	verified := must(update(made[0], (&verify.UpdateFactorParams{}).SetAuthPayload(phones[0].proof(made[0]))))
	equal([]string{*verified.Sid, *verified.Status}, []string{made[0], "verified"})
	ok("factors verify")
	change := (&verify.UpdateFactorParams{}).SetFriendlyName("My phone").SetConfigSdkVersion("2.0")
	updated := must(update(made[0], change.SetConfigNotificationToken(strings.Repeat("u", 64))))
	equal(*updated.FriendlyName, "My phone")
	equal(member(updated.Config, "notification_token"), strings.Repeat("u", 64))
	ok("factors update")
	fetched := must(tw.VerifyV2.FetchFactor(service, identity, made[0]))
	equal([]string{*fetched.Status, *fetched.FriendlyName}, []string{"verified", "My phone"})
	equal(member(fetched.Config, "sdk_version"), "2.0")
	ok("factors fetch")

	for _, sid := range made[2:] {
		check(tw.VerifyV2.DeleteFactor(service, identity, sid))
		_, err = tw.VerifyV2.FetchFactor(service, identity, sid)
		refused(404, 20404, err)
	}
	ok("factors delete")
	other := must(update(made[1], (&verify.UpdateFactorParams{}).SetAuthPayload(phones[1].proof(made[1]))))
	equal(*other.Status, "verified")
	return phones[0], made[0], made[1]
}

func ask(tw *twilio.RestClient, service, factor string) string {
	params := &verify.CreateChallengeParams{}
	params.SetFactorSid(factor).SetDetailsMessage("Well?")
	return *must(tw.VerifyV2.CreateChallenge(service, identity, params)).Sid
}

// answered answers a challenge as a phone does.
func answered(tw *twilio.RestClient, service, sid string, phone Phone, status string) (*verify.VerifyV2Challenge, error) {
	fetched := must(tw.VerifyV2.FetchChallengeWithMetadata(service, identity, sid))
	headers, challenge := fetched.GetHeaders(), fetched.GetResource()
	_, body := get(tw, *challenge.Url)
	payload := phone.answer(body, headers.Get("Twilio-Verify-Signature-Fields"), status)
	return tw.VerifyV2.UpdateChallenge(service, identity, sid, (&verify.UpdateChallengeParams{}).SetAuthPayload(payload))
}

func challenges(tw *twilio.RestClient, service string, phone Phone, factor, other string) {
	expires := time.Now().UTC().Truncate(time.Second).Add(10 * time.Minute)
	params := &verify.CreateChallengeParams{}
	params.SetFactorSid(factor).SetExpirationDate(expires).SetDetailsMessage("Sign in to Owl Bank/Go?")
	params.SetDetailsFields([]any{
		map[string]string{"label": "IP", "value": "203.0.113.9"},
		map[string]string{"label": "Owl", "value": "ü & 🦉"},
	})
	params.SetHiddenDetails(map[string]string{"txn": "a/b"})
	first := must(tw.VerifyV2.CreateChallenge(service, identity, params))
	isTrue(strings.HasPrefix(*first.Sid, "YC"), *first.Sid)
	equal([]string{*first.Status, *first.FactorSid, *first.Identity}, []string{"pending", factor, identity})
	isTrue(first.ExpirationDate.Equal(expires), first.ExpirationDate.String())
	isTrue(first.DateResponded == nil, "responded already")
	equal(member(first.Details, "message"), "Sign in to Owl Bank/Go?")
	equal(member(first.Details, "fields"), []any{
		map[string]any{"label": "IP", "value": "203.0.113.9"},
		map[string]any{"label": "Owl", "value": "ü & 🦉"},
	})
	equal(*first.HiddenDetails, any(map[string]any{"txn": "a/b"}))
	// Go writes a time in its own time zone.
	zoned := (&verify.CreateChallengeParams{}).SetFactorSid(factor).SetDetailsMessage("Elsewhere?")
	zoned.SetExpirationDate(expires.In(time.FixedZone("", -3*3600)))
	second := must(tw.VerifyV2.CreateChallenge(service, identity, zoned))
	isTrue(second.ExpirationDate.Equal(expires), second.ExpirationDate.String())
	ok("challenges create")

	made := []string{*first.Sid, *second.Sid}
	for range 3 {
		made = append(made, ask(tw, service, factor))
	}
	elsewhere := ask(tw, service, other)
	all := append(append([]string{}, made...), elsewhere)
	list := func() *verify.ListChallengeParams { return (&verify.ListChallengeParams{}).SetPageSize(2) }
	listed := func(params *verify.ListChallengeParams) []string {
		return sids(must(tw.VerifyV2.ListChallenge(service, identity, params)), challengeSid)
	}
	equal(listed(list()), all)
	equal(listed(list().SetLimit(5)), all[:5])
	streamed := received(tw.VerifyV2.StreamChallenge(service, identity, list()))
	equal(sids(streamed, challengeSid), all)
	token := ""
	for number := range 3 {
		page := must(tw.VerifyV2.PageChallenge(service, identity, list(), token, fmt.Sprint(number)))
		equal(sids(page.Challenges, challengeSid), all[2*number:2*number+2])
		equal([]any{page.Meta.Page, page.Meta.PageSize, page.Meta.Key}, []any{number, 2, "challenges"})
		isTrue((page.Meta.NextPageUrl == nil) == (number == 2), "wrong last page")
		isTrue((page.Meta.PreviousPageUrl == nil) == (number == 0), "wrong first page")
		if number < 2 {
			token = tokenOf(page.Meta.NextPageUrl)
		}
	}
	ok("challenges list")
	equal(listed(list().SetFactorSid(factor)), made)
	ok("challenges list FactorSid")
	equal(listed(list().SetOrder("asc")), all)
	equal(listed(list().SetFactorSid(factor).SetOrder("desc")), reversed(made))
	equal(listed(list().SetFactorSid(factor).SetOrder("desc").SetLimit(3)), reversed(made)[:3])
	ok("challenges list Order")

	for i, status := range []string{"approved", "denied"} {
		_, err := answered(tw, service, made[i], newPhone(), status)
		refused(403, 60324, err)
		done := must(answered(tw, service, made[i], phone, status))
		equal([]string{*done.Sid, *done.Status}, []string{made[i], status})
		isTrue(done.DateResponded != nil, "no date of the response")
		_, err = answered(tw, service, made[i], phone, "approved")
		refused(403, 60322, err)
		equal(*must(tw.VerifyV2.FetchChallenge(service, identity, made[i])).Status, status)
		equal(listed(list().SetStatus(status)), made[i:i+1])
	}
	ok("challenges answer")
	ok("challenges fetch")

	noted := must(tw.VerifyV2.UpdateChallenge(service, identity, made[2],
		(&verify.UpdateChallengeParams{}).SetMetadata(map[string]string{"seen": "yes"})))
	equal(*noted.Status, "pending")
	equal(*noted.Metadata, any(map[string]any{"seen": "yes"}))
	ok("challenges metadata")

	equal(listed(list().SetStatus("pending")), all[2:])
	equal(listed(list().SetStatus("pending").SetFactorSid(other).SetOrder("desc")), []string{elsewhere})
	equal(listed(list().SetStatus("expired")), []string{})
	check(tw.VerifyV2.DeleteFactor(service, identity, other))
	equal(listed(list().SetStatus("expired")), []string{elsewhere})
	ok("challenges list Status")
}

func notifications(tw *twilio.RestClient, service string, phone Phone, factor string) {
	challenge := ask(tw, service, factor)
	again := func(sid string) (*verify.VerifyV2Notification, error) {
		return tw.VerifyV2.CreateNotification(service, identity, sid, (&verify.CreateNotificationParams{}).SetTtl(150))
	}
	for range 3 {
		made := must(again(challenge))
		isTrue(strings.HasPrefix(*made.Sid, "NT"), *made.Sid)
		equal([]any{*made.ChallengeSid, *made.Identity, made.Ttl, *made.Priority}, []any{challenge, identity, 150, "high"})
	}
	_, err := again(challenge)
	refused(429, 60309, err)
	other := ask(tw, service, factor)
	must(answered(tw, service, other, phone, "denied"))
	_, err = again(other)
	refused(403, 60322, err)
	ok("notifications create")
}

func templates(tw *twilio.RestClient) {
	list := func(name string) []verify.VerifyV2VerificationTemplate {
		params := &verify.ListVerificationTemplateParams{}
		return must(tw.VerifyV2.ListVerificationTemplate(params.SetFriendlyName(name)))
	}
	found := list("Login")
	equal(len(found), 1)
	template := found[0]
	isTrue(strings.HasPrefix(*template.Sid, "HJ"), *template.Sid)
	equal(*template.AccountSid, accountSid)
	equal(*template.Channels, []string{"sms", "voice"})
	english := member(template.Translations, "en")
	equal(member(&english, "text"), "{{code}} logs you in")
	equal(len(list("Logout")), 0)
	ok("templates list")
}

func verifications(tw *twilio.RestClient) {
	created := must(tw.VerifyV2.CreateService((&verify.CreateServiceParams{}).SetFriendlyName("Codes").SetCustomCodeEnabled(true)))
	service, to, code := *created.Sid, "+4366412345678", "123456"
	send := (&verify.CreateVerificationParams{}).SetTo(to).SetChannel("sms").SetCustomCode(code)
	first := must(tw.VerifyV2.CreateVerification(service, send))
	equal([]any{*first.Status, *first.Valid, *first.To}, []any{"pending", false, to})
	for _, key := range []string{*first.Sid, to} {
		equal(*must(tw.VerifyV2.FetchVerification(service, key)).Sid, *first.Sid)
	}
	ok("verifications create, fetch")
	guess := (&verify.CreateVerificationCheckParams{}).SetTo(to).SetCode("654321")
	wrong := must(tw.VerifyV2.CreateVerificationCheck(service, guess))
	equal([]any{*wrong.Status, *wrong.Valid}, []any{"pending", false})
	right := must(tw.VerifyV2.CreateVerificationCheck(service, guess.SetCode(code)))
	equal([]any{*right.Sid, *right.Status, *right.Valid}, []any{*first.Sid, "approved", true})
	_, err := tw.VerifyV2.FetchVerification(service, to)
	refused(404, 20404, err)
	ok("verification check")
	second := must(tw.VerifyV2.CreateVerification(service, send))
	update := (&verify.UpdateVerificationParams{}).SetStatus("canceled")
	equal(*must(tw.VerifyV2.UpdateVerification(service, *second.Sid, update)).Status, "canceled")
	ok("verifications update")
	check(tw.VerifyV2.DeleteService(service))
}

// attempts checks only the form of the requests: this service sends no codes.
func attempts(tw *twilio.RestClient) {
	now, zeros := time.Now(), strings.Repeat("0", 32)
	params := &verify.ListVerificationAttemptParams{}
	params.SetDateCreatedAfter(now.Add(-24 * time.Hour)).SetDateCreatedBefore(now).SetChannelDataTo("+4366412345678")
	params.SetCountry("AT").SetChannel("sms").SetVerifyServiceSid("VA" + zeros).SetVerificationSid("VE" + zeros)
	equal(len(must(tw.VerifyV2.ListVerificationAttempt(params.SetStatus("unconverted")))), 0)
	ok("attempts list")
	_, err := tw.VerifyV2.FetchVerificationAttempt("VL" + zeros)
	refused(404, 20404, err)
	ok("attempts fetch")
	counted := &verify.FetchVerificationAttemptsSummaryParams{}
	counted.SetDateCreatedAfter(now.Add(-24 * time.Hour)).SetChannel("sms").SetVerifyServiceSid("VA" + zeros)
	summary := must(tw.VerifyV2.FetchVerificationAttemptsSummary(counted.SetDestinationPrefix("+43")))
	equal([]any{*summary.ConversionRatePercentage, *summary.Url}, []any{"0", baseURL + "/v2/Attempts/Summary"})
	ok("attempts summary")
}

func failures(tw *twilio.RestClient, service string) {
	missing := "VA" + strings.Repeat("0", 32)
	_, err := tw.VerifyV2.FetchService(missing)
	refusal := refused(404, 20404, err)
	isTrue(strings.Contains(refusal.Message, "/Services/"+missing+" was not found"), refusal.Message)
	_, err = tw.VerifyV2.CreateService((&verify.CreateServiceParams{}).SetFriendlyName(strings.Repeat("x", 65)))
	refused(400, 20002, err)
	_, err = tw.VerifyV2.CreateService(&verify.CreateServiceParams{})
	refused(400, 20001, err)
	_, err = tw.VerifyV2.ListService((&verify.ListServiceParams{}).SetPageSize(1001))
	refused(400, 20007, err)
	ok("errors")
	wrong := clientOf(accountSid, strings.Repeat("f", 32))
	_, err = wrong.VerifyV2.FetchService(service)
	refused(401, 20003, err)
	_, err = wrong.VerifyV2.ListService(nil)
	refused(401, 20003, err)
	_, err = wrong.VerifyV2.CreateService((&verify.CreateServiceParams{}).SetFriendlyName("Nobody's"))
	refused(401, 20003, err)
	ok("errors wrong token")
}

func apiKey(service string) {
	key := os.Getenv("API_KEY_SID")
	tw := clientOf(key, os.Getenv("API_KEY_SECRET"))
	equal(*must(tw.VerifyV2.FetchService(service)).AccountSid, accountSid)
	made := must(tw.VerifyV2.CreateEntity(service, (&verify.CreateEntityParams{}).SetIdentity("made-with-a-key")))
	equal(*made.AccountSid, accountSid)
	_, err := clientOf(key, strings.Repeat("f", 32)).VerifyV2.FetchService(service)
	refused(401, 20003, err)
	ok("API key")
}
