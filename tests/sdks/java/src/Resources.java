import static java.time.temporal.ChronoUnit.SECONDS;

import com.fasterxml.jackson.core.type.TypeReference;
import com.twilio.base.Page;
import com.twilio.base.Reader;
import com.twilio.base.TwilioResponse;
import com.twilio.http.HttpMethod;
import com.twilio.http.Request;
import com.twilio.http.TwilioRestClient;
import com.twilio.rest.verify.v2.Form;
import com.twilio.rest.verify.v2.Safelist;
import com.twilio.rest.verify.v2.Service;
import com.twilio.rest.verify.v2.Template;
import com.twilio.rest.verify.v2.VerificationAttempt;
import com.twilio.rest.verify.v2.VerificationAttemptsSummary;
import com.twilio.rest.verify.v2.service.AccessToken;
import com.twilio.rest.verify.v2.service.Entity;
import com.twilio.rest.verify.v2.service.MessagingConfiguration;
import com.twilio.rest.verify.v2.service.RateLimit;
import com.twilio.rest.verify.v2.service.Verification;
import com.twilio.rest.verify.v2.service.VerificationCheck;
import com.twilio.rest.verify.v2.service.entity.Challenge;
import com.twilio.rest.verify.v2.service.entity.ChallengeReader;
import com.twilio.rest.verify.v2.service.entity.Factor;
import com.twilio.rest.verify.v2.service.entity.NewFactor;
import com.twilio.rest.verify.v2.service.entity.NewFactorCreator;
import com.twilio.rest.verify.v2.service.entity.challenge.Notification;
import com.twilio.rest.verify.v2.service.ratelimit.Bucket;
import java.time.Duration;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Services, entities, access tokens, factors, challenges, notifications; errors; API keys. */
final class Resources {
    private final TwilioRestClient client;

    /** The resources that later checks use. */
    String service;
    Phone phone;
    String factor;
    private String other;

    Resources(TwilioRestClient client) {
        this.client = client;
    }

    void services() {
        List<String> made = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            Service service = Service.creator("Owl Bank " + number).create(client);
            made.add(service.getSid());
            Checks.isTrue(service.getSid().startsWith("VA"), service.getSid());
            Checks.equal(service.getAccountSid(), Main.ACCOUNT_SID);
            Checks.equal(service.getUrl().toString(), Main.BASE_URL + "/v2/Services/" + service.getSid());
            Checks.equal(Checks.member(service.getPush(), "include_date"), false);
            Duration age = Duration.between(service.getDateCreated(), ZonedDateTime.now());
            Checks.isTrue(age.abs().toMinutes() < 5, service.getDateCreated().toString());
        }
        Checks.ok("services create");

        // With two items a page the library must follow the server's links at least twice.
        List<String> listed = Checks.texts(client, Service.reader().setPageSize(2L), Service::getSid);
        Checks.equal(Checks.among(listed, made), made);
        Checks.equal(Checks.texts(client, Service.reader().pageSize(2).limit(3), Service::getSid).size(), 3);
        Checks.equal(Checks.texts(client, Service.reader().limit(3), Service::getSid).size(), 3);
        // The reader then also sends its own page size.
        Checks.equal(Checks.texts(client, Service.reader().setPageSize(2L).limit(3), Service::getSid).size(), 3);
        Checks.ok("services list");
        TwilioRestClient foreign = Main.clientWithTwiliosHost();
        listed = Checks.texts(foreign, Service.reader().setPageSize(2L), Service::getSid);
        Checks.equal(Checks.among(listed, made), made);
        Checks.ok("services list under Twilio's host name");

        for (String sid : made.subList(1, 5)) {
            Checks.equal(Service.deleter(sid).delete(client), true);
            Checks.refused(404, 20404, () -> Service.fetcher(sid).fetch(client));
        }
        service = made.get(0);
        Service updated =
                Service.updater(service).setFriendlyName("Barn Owl Bank").setPushIncludeDate(true).update(client);
        Checks.equal(updated.getFriendlyName(), "Barn Owl Bank");
        Checks.equal(Checks.member(updated.getPush(), "include_date"), true);
        Checks.ok("services update");
        Checks.equal(Service.fetcher(service).fetch(client).getFriendlyName(), "Barn Owl Bank");
        Checks.ok("services fetch");
    }

    void entities() {
        List<String> identities = new ArrayList<>();
        for (int number = 1; number <= 5; number++) {
            Entity made = Entity.creator(service, "java-user-000" + number).create(client);
            Checks.isTrue(made.getSid().startsWith("YE"), made.getSid());
            identities.add(made.getIdentity());
        }
        Checks.equal(identities.get(0), Main.IDENTITY);
        Checks.refused(409, 60301, () -> Entity.creator(service, Main.IDENTITY).create(client));
        Checks.refused(400, 60306, () -> Entity.creator(service, "short").create(client));
        Checks.ok("entities create");

        Checks.equal(Checks.texts(client, Entity.reader(service).pageSize(2), Entity::getIdentity), identities);
        Checks.equal(
                Checks.texts(client, Entity.reader(service).pageSize(2).limit(4), Entity::getIdentity),
                identities.subList(0, 4));
        Checks.ok("entities list");

        for (String identity : identities.subList(1, 5)) {
            Checks.equal(Entity.deleter(service, identity).delete(client), true);
            Checks.refused(404, 20404, () -> Entity.fetcher(service, identity).fetch(client));
        }
        Checks.equal(Entity.fetcher(service, Main.IDENTITY).fetch(client).getServiceSid(), service);
        Checks.ok("entities fetch");
    }

    void accessTokens() {
        AccessToken made = AccessToken.creator(service, Main.IDENTITY, AccessToken.FactorTypes.PUSH)
                .setFactorFriendlyName("Java's phone")
                .setTtl(120)
                .create(client);
        Checks.isTrue(made.getSid().startsWith("YK"), made.getSid());
        Checks.equal(made.getEntityIdentity(), Main.IDENTITY);
        Checks.equal(made.getFactorType(), AccessToken.FactorTypes.PUSH);
        Checks.equal(made.getTtl(), 120);
        Checks.equal(made.getFactorFriendlyName(), "Java's phone");
        Checks.ok("access tokens create");
        AccessToken fetched = AccessToken.fetcher(service, made.getSid()).fetch(client);
        Checks.equal(fetched.getToken(), made.getToken());
        Checks.equal(
                fetched.getUrl().toString(),
                Main.BASE_URL + "/v2/Services/" + service + "/AccessTokens/" + made.getSid());
        Checks.refused(404, 20404, () -> AccessToken.fetcher(service, "YK" + "0".repeat(32)).fetch(client));
        Checks.ok("access tokens fetch");
    }

    void rateLimits() {
        List<String> made = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            RateLimit limit = RateLimit.creator(service, "limit." + number)
                    .setDescription("Per address")
                    .create(client);
            Checks.isTrue(limit.getSid().startsWith("RK"), limit.getSid());
            Checks.equal(limit.getDescription(), "Per address");
            made.add(limit.getSid());
        }
        Checks.refused(400, 60208, () -> RateLimit.creator(service, "limit.0").create(client));
        Checks.refused(400, 60209, () -> RateLimit.creator(service, "limit 0").create(client));
        Checks.ok("rate limits create");
        Checks.equal(Checks.texts(client, RateLimit.reader(service).pageSize(2), RateLimit::getSid), made);
        Checks.ok("rate limits list");
        String limit = made.get(0);
        Checks.equal(RateLimit.fetcher(service, "limit.0").fetch(client).getSid(), limit);
        Checks.ok("rate limits fetch");
        RateLimit updated =
                RateLimit.updater(service, limit).setDescription("Per user").update(client);
        Checks.equal(updated.getDescription(), "Per user");
        Checks.ok("rate limits update");
        buckets(limit);
        for (String sid : made) {
            Checks.equal(RateLimit.deleter(service, sid).delete(client), true);
            Checks.refused(404, 20404, () -> RateLimit.fetcher(service, sid).fetch(client));
        }
        Checks.ok("rate limits delete");
    }

    private void buckets(String limit) {
        List<String> made = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            Bucket bucket = Bucket.creator(service, limit, 4, 60 + number).create(client);
            Checks.isTrue(bucket.getSid().startsWith("BL"), bucket.getSid());
            Checks.equal(List.of(bucket.getMax(), bucket.getInterval()), List.of(4, 60 + number));
            Checks.equal(bucket.getRateLimitSid(), limit);
            made.add(bucket.getSid());
        }
        Checks.refused(400, 60211, () -> Bucket.creator(service, limit, 5, 60).create(client));
        Checks.refused(400, 60200, () -> Bucket.creator(service, limit, 0, 1).create(client));
        Checks.ok("buckets create");
        Checks.equal(Checks.texts(client, Bucket.reader(service, limit).pageSize(2), Bucket::getSid), made);
        Checks.ok("buckets list");
        String first = made.get(0);
        Checks.equal(Bucket.fetcher(service, limit, first).fetch(client).getInterval(), 60);
        Checks.ok("buckets fetch");
        Bucket updated = Bucket.updater(service, limit, first).setMax(9).setInterval(3600).update(client);
        Checks.equal(List.of(updated.getMax(), updated.getInterval()), List.of(9, 3600));
        Checks.ok("buckets update");
        Checks.equal(Bucket.deleter(service, limit, first).delete(client), true);
        Checks.refused(404, 20404, () -> Bucket.fetcher(service, limit, first).fetch(client));
        Checks.ok("buckets delete");
    }

    void messagingConfigurations() {
        String outlet = "MG" + "0".repeat(32);
        String other = "MG" + "1".repeat(32);
        List<String> countries = List.of("AT", "DE", "CH", "FR", "all");
        for (String country : countries) {
            MessagingConfiguration made =
                    MessagingConfiguration.creator(service, country, outlet).create(client);
            Checks.equal(List.of(made.getCountry(), made.getMessagingServiceSid()), List.of(country, outlet));
        }
        Checks.refused(400, 60213, () -> MessagingConfiguration.creator(service, "AT", outlet).create(client));
        Checks.ok("messaging configurations create");
        Checks.equal(
                Checks.texts(
                        client,
                        MessagingConfiguration.reader(service).pageSize(2),
                        MessagingConfiguration::getCountry),
                countries);
        Checks.ok("messaging configurations list");
        Checks.equal(MessagingConfiguration.fetcher(service, "all").fetch(client).getCountry(), "all");
        Checks.ok("messaging configurations fetch");
        MessagingConfiguration updated =
                MessagingConfiguration.updater(service, "AT", other).update(client);
        Checks.equal(updated.getMessagingServiceSid(), other);
        Checks.ok("messaging configurations update");
        for (String country : countries) {
            Checks.equal(MessagingConfiguration.deleter(service, country).delete(client), true);
            Checks.refused(404, 20404, () -> MessagingConfiguration.fetcher(service, country).fetch(client));
        }
        Checks.ok("messaging configurations delete");
    }

    void safeList() {
        String number = "+4366412345678";
        Safelist made = Safelist.creator(number).create(client);
        Checks.isTrue(made.getSid().startsWith("GN"), made.getSid());
        Checks.refused(409, 60411, () -> Safelist.creator(number).create(client));
        Checks.refused(400, 60306, () -> Safelist.creator("0664").create(client));
        Checks.ok("safe list create");
        Checks.equal(Safelist.fetcher(number).fetch(client).getSid(), made.getSid());
        Checks.ok("safe list fetch");
        Checks.equal(Safelist.deleter(number).delete(client), true);
        Checks.refused(404, 20404, () -> Safelist.fetcher(number).fetch(client));
        Checks.ok("safe list delete");
        Form form = Form.fetcher(Form.FormTypes.FORM_PUSH).fetch(client);
        Checks.equal(form.getFormType(), Form.FormTypes.FORM_PUSH);
        Checks.isTrue(Checks.member(form.getForms(), "create_factor") != null, "no form");
        Checks.ok("forms fetch");
    }

    /** Returns the creator of a push factor without a push platform. */
    NewFactorCreator newFactor(Phone phone, String name) {
        return NewFactor.creator(service, Main.IDENTITY, name, NewFactor.FactorTypes.PUSH)
                .setBindingAlg("ES256")
                .setBindingPublicKey(phone.publicKey())
                .setConfigAppId("com.example.app")
                .setConfigSdkVersion("1.0")
                .setConfigNotificationPlatform(NewFactor.NotificationPlatforms.NONE);
    }

    void factors() {
        List<Phone> phones = new ArrayList<>();
        List<String> made = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            Phone phone = new Phone();
            NewFactorCreator creator = newFactor(phone, "Phone " + number);
            if (number == 0) {
                creator.setConfigNotificationPlatform(NewFactor.NotificationPlatforms.FCM)
                        .setConfigNotificationToken("t".repeat(64))
                        .setMetadata(Map.of("os", "Java"));
            }
            NewFactor factor = creator.create(client);
            Checks.isTrue(factor.getSid().startsWith("YF"), factor.getSid());
            Checks.equal(factor.getStatus(), NewFactor.FactorStatuses.UNVERIFIED);
            Checks.equal(factor.getFactorType(), NewFactor.FactorTypes.PUSH);
            Checks.equal(factor.getIdentity(), Main.IDENTITY);
            Checks.equal(factor.getBinding(), Map.of("alg", "ES256", "public_key", phone.publicKey()));
            if (number == 0) {
                Checks.equal(factor.getMetadata(), Map.of("os", "Java"));
                Checks.equal(Checks.member(factor.getConfig(), "notification_token"), "t".repeat(64));
            }
            phones.add(phone);
            made.add(factor.getSid());
        }
        Checks.refused(409, 60317, () -> newFactor(phones.get(0), "Phone 0").create(client));
        Checks.ok("factors create");

        Reader<Factor> reader = Factor.reader(service, Main.IDENTITY).pageSize(2);
        Checks.equal(Checks.texts(client, reader, Factor::getSid), made);
        Checks.ok("factors list");

        phone = phones.get(0);
        factor = made.get(0);
        other = made.get(1);
        Checks.refused(403, 60318, () -> ask(factor));
        Checks.refused(403, 60311, () -> verify(factor, phones.get(1)));
        Factor verified = verify(factor, phone);
        Checks.equal(verified.getSid(), factor);
        Checks.equal(verified.getStatus(), Factor.FactorStatuses.VERIFIED);
        Checks.ok("factors verify");
        Factor updated = Factor.updater(service, Main.IDENTITY, factor)
                .setFriendlyName("My phone")
                .setConfigNotificationToken("u".repeat(64))
                .setConfigSdkVersion("2.0")
                .update(client);
        Checks.equal(updated.getFriendlyName(), "My phone");
        Checks.equal(Checks.member(updated.getConfig(), "notification_token"), "u".repeat(64));
        Checks.ok("factors update");
        Factor fetched = Factor.fetcher(service, Main.IDENTITY, factor).fetch(client);
        Checks.equal(fetched.getStatus(), Factor.FactorStatuses.VERIFIED);
        Checks.equal(fetched.getFriendlyName(), "My phone");
        Checks.equal(Checks.member(fetched.getConfig(), "sdk_version"), "2.0");
        Checks.ok("factors fetch");

        for (String sid : made.subList(2, 5)) {
            Checks.equal(Factor.deleter(service, Main.IDENTITY, sid).delete(client), true);
            Checks.refused(404, 20404, () -> Factor.fetcher(service, Main.IDENTITY, sid).fetch(client));
        }
        Checks.ok("factors delete");
        Checks.equal(verify(other, phones.get(1)).getStatus(), Factor.FactorStatuses.VERIFIED);
    }

    private Factor verify(String sid, Phone phone) {
        return Factor.updater(service, Main.IDENTITY, sid).setAuthPayload(phone.proof(sid)).update(client);
    }

    String ask(String factor) {
        return Challenge.creator(service, Main.IDENTITY, factor).setDetailsMessage("Well?").create(client).getSid();
    }

    Challenge fetched(String challenge) {
        return Challenge.fetcher(service, Main.IDENTITY, challenge).fetch(client);
    }

    /** Answers a challenge as a phone does. */
    Challenge answered(String challenge, Phone phone, String status) {
        TwilioResponse<Challenge> fetched =
                Challenge.fetcher(service, Main.IDENTITY, challenge).fetchWithResponse(client);
        String fields = fetched.getHeaders().get("Twilio-Verify-Signature-Fields");
        // A plain GET with the library's own connection, because its classes do not show the text of a response.
        Request request = new Request(HttpMethod.GET, fetched.getContent().getUrl().toString());
        String payload;
        try {
            Map<String, Object> body = client.getObjectMapper()
                    .readValue(client.request(request).getContent(), new TypeReference<Map<String, Object>>() {});
            payload = phone.answer(body, fields, status);
        } catch (java.io.IOException error) {
            throw new IllegalStateException(error);
        }
        return Challenge.updater(service, Main.IDENTITY, challenge).setAuthPayload(payload).update(client);
    }

    private ChallengeReader reader() {
        return Challenge.reader(service, Main.IDENTITY).setPageSize(2L);
    }

    private List<String> listed(Reader<Challenge> reader) {
        return Checks.texts(client, reader, Challenge::getSid);
    }

    void challenges() {
        // Java writes a time without its zone, so it must be in UTC.
        ZonedDateTime expires = ZonedDateTime.now(ZoneOffset.UTC).truncatedTo(SECONDS).plusMinutes(10);
        List<Object> fields = List.of(
                Map.of("label", "IP", "value", "203.0.113.9"), Map.of("label", "Owl", "value", "ü & 🦉"));
        Challenge first = Challenge.creator(service, Main.IDENTITY, factor)
                .setExpirationDate(expires)
                .setDetailsMessage("Sign in to Owl Bank/Java?")
                .setDetailsFields(fields)
                .setHiddenDetails(Map.of("txn", "a/b"))
                .create(client);
        Checks.isTrue(first.getSid().startsWith("YC"), first.getSid());
        Checks.equal(first.getStatus(), Challenge.ChallengeStatuses.PENDING);
        Checks.equal(List.of(first.getFactorSid(), first.getIdentity()), List.of(factor, Main.IDENTITY));
        Checks.equal(first.getExpirationDate().toInstant(), expires.toInstant());
        Checks.equal(first.getDateResponded(), null);
        Checks.equal(Checks.member(first.getDetails(), "message"), "Sign in to Owl Bank/Java?");
        Checks.equal(Checks.member(first.getDetails(), "fields"), fields);
        Checks.equal(first.getHiddenDetails(), Map.of("txn", "a/b"));
        Checks.ok("challenges create");

        List<String> made = new ArrayList<>(List.of(first.getSid()));
        for (int number = 1; number < 5; number++) {
            made.add(ask(factor));
        }
        String elsewhere = ask(other);
        List<String> all = new ArrayList<>(made);
        all.add(elsewhere);
        Checks.equal(listed(reader()), all);
        Checks.equal(listed(Challenge.reader(service, Main.IDENTITY).pageSize(2).limit(5)), all.subList(0, 5));
        Page<Challenge> page = reader().firstPage(client);
        for (int number = 0; number < 3; number++) {
            List<String> sids = page.getRecords().stream().map(Challenge::getSid).toList();
            Checks.equal(sids, all.subList(2 * number, 2 * number + 2));
            Checks.equal(page.getPageSize(), 2);
            Checks.equal(page.hasNextPage(), number < 2);
            page = number < 2 ? reader().nextPage(page, client) : reader().previousPage(page, client);
        }
        List<String> back = page.getRecords().stream().map(Challenge::getSid).toList();
        Checks.equal(back, all.subList(2, 4));
        Checks.ok("challenges list");
        Checks.equal(listed(reader().setFactorSid(factor)), made);
        Checks.ok("challenges list FactorSid");
        Checks.equal(listed(reader().setOrder(Challenge.ListOrders.ASC)), all);
        ChallengeReader newest = reader().setFactorSid(factor).setOrder(Challenge.ListOrders.DESC);
        Checks.equal(listed(newest), Checks.reversed(made));
        Reader<Challenge> three = Challenge.reader(service, Main.IDENTITY)
                .setFactorSid(factor)
                .setOrder(Challenge.ListOrders.DESC)
                .pageSize(2)
                .limit(3);
        Checks.equal(listed(three), Checks.reversed(made).subList(0, 3));
        Checks.ok("challenges list Order");

        List<Challenge.ChallengeStatuses> answers =
                List.of(Challenge.ChallengeStatuses.APPROVED, Challenge.ChallengeStatuses.DENIED);
        for (int number = 0; number < 2; number++) {
            String sid = made.get(number);
            Challenge.ChallengeStatuses status = answers.get(number);
            Checks.refused(403, 60324, () -> answered(sid, new Phone(), status.toString()));
            Challenge done = answered(sid, phone, status.toString());
            Checks.equal(done.getSid(), sid);
            Checks.equal(done.getStatus(), status);
            Checks.isTrue(done.getDateResponded() != null, "no date of the response");
            Checks.refused(403, 60322, () -> answered(sid, phone, "approved"));
            Checks.equal(fetched(sid).getStatus(), status);
            Checks.equal(listed(reader().setStatus(status)), List.of(sid));
        }
        Checks.ok("challenges answer");
        Checks.ok("challenges fetch");

        Challenge noted = Challenge.updater(service, Main.IDENTITY, made.get(2))
                .setMetadata(Map.of("seen", "yes"))
                .update(client);
        Checks.equal(noted.getStatus(), Challenge.ChallengeStatuses.PENDING);
        Checks.equal(noted.getMetadata(), Map.of("seen", "yes"));
        Checks.ok("challenges metadata");

        Checks.equal(listed(reader().setStatus(Challenge.ChallengeStatuses.PENDING)), all.subList(2, 6));
        ChallengeReader pending = reader().setStatus(Challenge.ChallengeStatuses.PENDING).setFactorSid(other);
        Checks.equal(listed(pending.setOrder(Challenge.ListOrders.DESC)), List.of(elsewhere));
        Checks.equal(listed(reader().setStatus(Challenge.ChallengeStatuses.EXPIRED)), List.of());
        Checks.equal(Factor.deleter(service, Main.IDENTITY, other).delete(client), true);
        Checks.equal(listed(reader().setStatus(Challenge.ChallengeStatuses.EXPIRED)), List.of(elsewhere));
        Checks.ok("challenges list Status");
    }

    void templates() {
        List<Template> found = new ArrayList<>();
        Template.reader().setFriendlyName("Login").read(client).forEach(found::add);
        Checks.equal(found.size(), 1);
        Template template = found.get(0);
        Checks.isTrue(template.getSid().startsWith("HJ"), template.getSid());
        Checks.equal(template.getAccountSid(), Main.ACCOUNT_SID);
        Checks.equal(template.getChannels(), List.of("sms", "voice"));
        Object english = Checks.member(template.getTranslations(), "en");
        Checks.equal(Checks.member(english, "text"), "{{code}} logs you in");
        Checks.equal(Checks.texts(client, Template.reader().setFriendlyName("Logout"), Template::getSid), List.of());
        Checks.ok("templates list");
    }

    void verifications() {
        String codes = Service.creator("Codes").setCustomCodeEnabled(true).create(client).getSid();
        String to = "+4366412345678";
        String code = "123456";
        Verification first = Verification.creator(codes, to, "sms").setCustomCode(code).create(client);
        Checks.equal(List.of(first.getStatus(), first.getValid(), first.getTo()), List.of("pending", false, to));
        for (String key : List.of(first.getSid(), to)) {
            Checks.equal(Verification.fetcher(codes, key).fetch(client).getSid(), first.getSid());
        }
        Checks.ok("verifications create, fetch");
        VerificationCheck wrong = VerificationCheck.creator(codes).setTo(to).setCode("654321").create(client);
        Checks.equal(List.of(wrong.getStatus(), wrong.getValid()), List.of("pending", false));
        VerificationCheck right = VerificationCheck.creator(codes).setTo(to).setCode(code).create(client);
        Checks.equal(List.of(right.getStatus(), right.getValid()), List.of("approved", true));
        Checks.refused(404, 20404, () -> Verification.fetcher(codes, to).fetch(client));
        Checks.ok("verification check");
        Verification second = Verification.creator(codes, to, "sms").create(client);
        Verification canceled =
                Verification.updater(codes, second.getSid(), Verification.Status.CANCELED).update(client);
        Checks.equal(canceled.getStatus(), "canceled");
        Checks.ok("verifications update");
        Service.deleter(codes).delete(client);
    }

    /** Checks only the form of the requests: this service sends no codes. */
    void attempts() {
        ZonedDateTime now = ZonedDateTime.now(ZoneOffset.UTC).truncatedTo(SECONDS);
        String zeros = "0".repeat(32);
        Reader<VerificationAttempt> reader = VerificationAttempt.reader()
                .setDateCreatedAfter(now.minusDays(1))
                .setDateCreatedBefore(now)
                .setChannelDataTo("+4366412345678")
                .setCountry("AT")
                .setChannel(VerificationAttempt.Channels.SMS)
                .setVerifyServiceSid("VA" + zeros)
                .setVerificationSid("VE" + zeros)
                .setStatus(VerificationAttempt.ConversionStatus.UNCONVERTED);
        Checks.equal(Checks.texts(client, reader, VerificationAttempt::getSid), List.of());
        Checks.ok("attempts list");
        Checks.refused(404, 20404, () -> VerificationAttempt.fetcher("VL" + zeros).fetch(client));
        Checks.ok("attempts fetch");
        VerificationAttemptsSummary summary = VerificationAttemptsSummary.fetcher()
                .setDateCreatedAfter(now.minusDays(1))
                .setChannel(VerificationAttemptsSummary.Channels.SMS)
                .setVerifyServiceSid("VA" + zeros)
                .setDestinationPrefix("+43")
                .fetch(client);
        Checks.equal(summary.getTotalAttempts(), 0);
        Checks.equal(summary.getTotalUnconverted(), 0);
        // Some versions of the library parse the text as a number.
        Checks.equal(String.valueOf(summary.getConversionRatePercentage()), "0");
        Checks.ok("attempts summary");
    }

    private Notification again(String challenge) {
        return Notification.creator(service, Main.IDENTITY, challenge).setTtl(150).create(client);
    }

    void notifications() {
        String challenge = ask(factor);
        for (int number = 0; number < 3; number++) {
            Notification made = again(challenge);
            Checks.isTrue(made.getSid().startsWith("NT"), made.getSid());
            Checks.equal(List.of(made.getChallengeSid(), made.getIdentity()), List.of(challenge, Main.IDENTITY));
            Checks.equal(made.getTtl(), 150);
            Checks.equal(made.getPriority(), "high");
        }
        Checks.refused(429, 60309, () -> again(challenge));
        String done = ask(factor);
        answered(done, phone, "denied");
        Checks.refused(403, 60322, () -> again(done));
        Checks.ok("notifications create");
    }

    void failures() {
        String missing = "VA" + "0".repeat(32);
        String message = Checks.refused(404, 20404, () -> Service.fetcher(missing).fetch(client)).getMessage();
        Checks.isTrue(message.contains("/Services/" + missing + " was not found"), message);
        Checks.refused(400, 20002, () -> Service.creator("x".repeat(65)).create(client));
        Checks.refused(400, 20001, () -> Service.creator("").create(client));
        Checks.refused(400, 20007, () -> Service.reader().setPageSize(1001L).read(client));
        Checks.ok("errors");
        TwilioRestClient wrong = Main.clientOf(Main.ACCOUNT_SID, "f".repeat(32)).build();
        Checks.refused(401, 20003, () -> Service.fetcher(service).fetch(wrong));
        Checks.refused(401, 20003, () -> Service.reader().read(wrong));
        Checks.refused(401, 20003, () -> Service.creator("Nobody's").create(wrong));
        Checks.ok("errors wrong token");
    }

    void apiKey() {
        String key = System.getenv("API_KEY_SID");
        TwilioRestClient own = Main.clientOf(key, System.getenv("API_KEY_SECRET")).accountSid(Main.ACCOUNT_SID).build();
        Checks.equal(Service.fetcher(service).fetch(own).getAccountSid(), Main.ACCOUNT_SID);
        Checks.equal(Entity.creator(service, "made-with-a-key").create(own).getAccountSid(), Main.ACCOUNT_SID);
        TwilioRestClient wrong = Main.clientOf(key, "f".repeat(32)).accountSid(Main.ACCOUNT_SID).build();
        Checks.refused(401, 20003, () -> Service.fetcher(service).fetch(wrong));
        Checks.ok("API key");
    }
}
