import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import com.twilio.http.HttpMethod;
import com.twilio.http.TwilioRestClient;
import com.twilio.rest.monitor.v1.Alert;
import com.twilio.rest.monitor.v1.AlertReader;
import com.twilio.rest.notify.v1.Credential;
import com.twilio.rest.verify.v2.Service;
import com.twilio.rest.verify.v2.service.Webhook;
import com.twilio.security.RequestValidator;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.KeyPairGenerator;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Webhooks, alerts, push credentials. */
final class Deliveries {
    private final TwilioRestClient client;
    private final Resources resources;
    private final String service;

    Deliveries(TwilioRestClient client, Resources resources) {
        this.client = client;
        this.resources = resources;
        service = resources.service;
    }

    /** A request that a webhook receiver got. */
    private record Call(String address, String signature, Map<String, String> told) {}

    /** A backend that receives webhooks and responds to each with the status. */
    private static final class Receiver implements AutoCloseable {
        private final HttpServer server;
        private final BlockingQueue<Call> calls = new LinkedBlockingQueue<>();

        Receiver(int status) throws Exception {
            server = HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), 0), 0);
            server.createContext("/", exchange -> {
                String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
                Map<String, String> told = new HashMap<>();
                for (String pair : body.split("&")) {
                    String[] parts = pair.split("=", 2);
                    told.put(decoded(parts[0]), decoded(parts[1]));
                }
                String host = exchange.getRequestHeaders().getFirst("Host");
                String signature = exchange.getRequestHeaders().getFirst("X-Twilio-Signature");
                calls.add(new Call("http://" + host + exchange.getRequestURI(), signature, told));
                exchange.sendResponseHeaders(status, -1);
                exchange.close();
            });
            server.start();
        }

        private static String decoded(String text) {
            return URLDecoder.decode(text, StandardCharsets.UTF_8);
        }

        String url(String path) {
            return "http://127.0.0.1:" + server.getAddress().getPort() + path;
        }

        Call next() throws InterruptedException {
            Call call = calls.poll(20, TimeUnit.SECONDS);
            Checks.isTrue(call != null, "no webhook was delivered");
            return call;
        }

        @Override
        public void close() {
            server.stop(0);
        }
    }

    void webhooks() throws Exception {
        String elsewhere = "https://backend.example/hook?tenant=7";
        List<String> types = List.of("factor.created", "factor.deleted");
        List<String> made = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            Webhook webhook = Webhook.creator(service, "Hook " + number, types, elsewhere)
                    .setStatus(Webhook.Status.DISABLED)
                    .setVersion(Webhook.Version.V1)
                    .create(client);
            made.add(webhook.getSid());
            Checks.isTrue(webhook.getSid().startsWith("YW"), webhook.getSid());
            Checks.equal(webhook.getEventTypes(), types);
            Checks.equal(webhook.getStatus(), Webhook.Status.DISABLED);
            Checks.equal(webhook.getVersion(), Webhook.Version.V1);
            Checks.equal(webhook.getWebhookMethod(), Webhook.Methods.POST);
            Checks.equal(webhook.getWebhookUrl().toString(), elsewhere);
        }
        Checks.refused(
                400,
                60306,
                () -> Webhook.creator(service, "Hook", List.of("*"), "ftp://backend.example/hook").create(client));
        Checks.ok("webhooks create");
        Checks.equal(Checks.texts(client, Webhook.reader(service).pageSize(2), Webhook::getSid), made);
        Checks.ok("webhooks list");
        for (String sid : made.subList(1, 5)) {
            Checks.equal(Webhook.deleter(service, sid).delete(client), true);
            Checks.refused(404, 20404, () -> Webhook.fetcher(service, sid).fetch(client));
        }
        Checks.ok("webhooks delete");

        try (Receiver hook = new Receiver(200)) {
            String sid = made.get(0);
            String url = hook.url("/hook?tenant=7");
            Webhook updated = Webhook.updater(service, sid)
                    .setStatus(Webhook.Status.ENABLED)
                    .setVersion(Webhook.Version.V2)
                    .setWebhookUrl(url)
                    .setEventTypes("challenge.approved")
                    .update(client);
            Checks.equal(updated.getStatus(), Webhook.Status.ENABLED);
            Checks.equal(updated.getVersion(), Webhook.Version.V2);
            Checks.equal(updated.getFriendlyName(), "Hook 0");
            Checks.ok("webhooks update");
            Webhook fetched = Webhook.fetcher(service, sid).fetch(client);
            Checks.equal(fetched.getEventTypes(), List.of("challenge.approved"));
            Checks.equal(fetched.getWebhookUrl().toString(), url);
            Checks.ok("webhooks fetch");

            String challenge = resources.ask(resources.factor);
            resources.answered(challenge, resources.phone, "approved");
            Call event = hook.next();
            Map<String, String> told = event.told();
            RequestValidator validator = new RequestValidator(Main.AUTH_TOKEN);
            Checks.isTrue(validator.validate(event.address(), told, event.signature()), "the signature is not valid");
            RequestValidator stranger = new RequestValidator("f".repeat(32));
            Checks.isTrue(!stranger.validate(event.address(), told, event.signature()), "any signature is valid");
            Checks.equal(told.get("type"), "challenge.approved");
            Checks.equal(told.get("challenge_sid"), challenge);
            Checks.equal(told.get("factor_sid"), resources.factor);
            Checks.equal(told.get("account_sid"), Main.ACCOUNT_SID);
            Checks.equal(told.get("service_sid"), service);
            Checks.equal(told.get("entity_identity"), Main.IDENTITY);
            Checks.ok("webhooks delivered");
            Checks.equal(Webhook.deleter(service, sid).delete(client), true);
        }
    }

    private AlertReader reader() {
        return Alert.reader().setPageSize(2L);
    }

    /** Returns the alerts about the webhooks of this service. */
    private List<Alert> own(AlertReader reader) {
        List<Alert> own = new ArrayList<>();
        for (Alert alert : reader.read(client)) {
            if (service.equals(alert.getServiceSid()) && alert.getErrorCode().equals("11200")) {
                own.add(alert);
            }
        }
        return own;
    }

    void alerts() throws Exception {
        try (Receiver hook = new Receiver(404)) {
            List<String> types = List.of("factor.created");
            String webhook = Webhook.creator(service, "Gone", types, hook.url("/gone")).create(client).getSid();
            ZonedDateTime since = ZonedDateTime.now(ZoneOffset.UTC).minusMinutes(1);
            for (int number = 0; number < 5; number++) {
                resources.newFactor(new Phone(), "Unheard of " + number).create(client);
                hook.next();
            }
            // An alert is stored only after the receiver has responded.
            List<Alert> found = own(reader());
            for (int tries = 0; found.size() < 5 && tries < 100; tries++) {
                Thread.sleep(100);
                found = own(reader());
            }
            Checks.equal(found.size(), 5);
            for (int i = 1; i < 5; i++) {
                boolean ordered = !found.get(i - 1).getDateCreated().isBefore(found.get(i).getDateCreated());
                Checks.isTrue(ordered, "not the newest first");
            }
            ZonedDateTime soon = ZonedDateTime.now(ZoneOffset.UTC).plusMinutes(1);
            Checks.equal(own(reader().setLogLevel("error").setStartDate(since).setEndDate(soon)).size(), 5);
            Checks.equal(own(reader().setLogLevel("debug")).size(), 0);
            Checks.equal(own(reader().setEndDate(since.minusDays(1))).size(), 0);
            Checks.equal(Checks.texts(client, Alert.reader().pageSize(2).limit(3), Alert::getSid).size(), 3);
            Checks.ok("alerts list");

            Alert alert = Alert.fetcher(found.get(0).getSid()).fetch(client);
            Checks.isTrue(alert.getSid().startsWith("NO"), alert.getSid());
            Checks.equal(List.of(alert.getErrorCode(), alert.getLogLevel()), List.of("11200", "error"));
            Checks.equal(alert.getAccountSid(), Main.ACCOUNT_SID);
            Checks.equal(alert.getRequestMethod(), HttpMethod.POST);
            Checks.equal(alert.getRequestUrl(), hook.url("/gone"));
            String variables = alert.getRequestVariables();
            Checks.isTrue(variables.contains("type=factor.created"), variables);
            Checks.refused(404, 20404, () -> Alert.fetcher("NO" + "0".repeat(32)).fetch(client));
            Checks.ok("alerts fetch");
            Checks.equal(Webhook.deleter(service, webhook).delete(client), true);
        }
    }

    /** Returns a Google service account file with a generated key. */
    private static String serviceAccount() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        generator.initialize(2048);
        byte[] key = generator.generateKeyPair().getPrivate().getEncoded();
        String lines = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key);
        return new ObjectMapper()
                .writeValueAsString(Map.of(
                        "type", "service_account",
                        "project_id", "owl-bank",
                        "private_key_id", "0123456789abcdef0123456789abcdef01234567",
                        "private_key", "-----BEGIN PRIVATE KEY-----\n" + lines + "\n-----END PRIVATE KEY-----\n",
                        "client_email", "push@owl-bank.iam.gserviceaccount.com",
                        "client_id", "100000000000000000001",
                        "token_uri", "https://oauth2.googleapis.com/token"));
    }

    void credentials() throws Exception {
        String secret = serviceAccount();
        List<String> made = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            Credential credential = Credential.creator(Credential.PushService.FCM)
                    .setFriendlyName("Google " + number)
                    .setSecret(secret)
                    .create(client);
            made.add(credential.getSid());
            Checks.isTrue(credential.getSid().startsWith("CR"), credential.getSid());
            Checks.equal(credential.getType(), Credential.PushService.FCM);
            Checks.equal(credential.getAccountSid(), Main.ACCOUNT_SID);
        }
        Checks.refused(
                400, 60306, () -> Credential.creator(Credential.PushService.FCM).setSecret("{}").create(client));
        Checks.ok("credentials create");
        List<String> listed = Checks.texts(client, Credential.reader().pageSize(2), Credential::getSid);
        Checks.equal(Checks.among(listed, made), made);
        Checks.ok("credentials list");
        String sid = made.get(0);
        Credential updated =
                Credential.updater(sid).setFriendlyName("Google").setSecret(serviceAccount()).update(client);
        Checks.equal(updated.getFriendlyName(), "Google");
        Checks.ok("credentials update");
        Credential fetched = Credential.fetcher(sid).fetch(client);
        Checks.equal(fetched.getFriendlyName(), "Google");
        Checks.equal(fetched.getUrl().toString(), Main.BASE_URL + "/v1/Credentials/" + sid);
        Checks.ok("credentials fetch");

        Service named = Service.updater(service).setPushFcmCredentialSid(sid).update(client);
        Checks.equal(Checks.member(named.getPush(), "fcm_credential_sid"), sid);
        Service cleared = Service.updater(service).setPushFcmCredentialSid("").update(client);
        Checks.equal(Checks.member(cleared.getPush(), "fcm_credential_sid"), null);
        Checks.ok("credentials named in a service");
        for (String each : made) {
            Checks.equal(Credential.deleter(each).delete(client), true);
            Checks.refused(404, 20404, () -> Credential.fetcher(each).fetch(client));
        }
        Checks.ok("credentials delete");
    }
}
