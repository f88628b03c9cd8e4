package sample;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.twilio.http.NetworkHttpClient;
import com.twilio.http.TwilioRestClient;
import countersign.testing.Behaviour;
import countersign.testing.Countersign;
import countersign.testing.CountersignExtension;
import countersign.testing.Device;
import countersign.testing.OwnServer;
import countersign.testing.Push;
import countersign.testing.RequestException;
import countersign.testing.Webhook;
import java.time.Duration;
import java.util.Map;
import org.apache.hc.client5.http.HttpRoute;
import org.apache.hc.client5.http.impl.classic.HttpClientBuilder;
import org.apache.hc.core5.http.HttpHost;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Tests of a backend whose sign-in needs the phone. Copy what is useful. */
@ExtendWith(CountersignExtension.class)
class LoginTest {
    private static final String USER = "user-0001";
    private static final Duration TIMEOUT = Duration.ofSeconds(5);

    /** Returns a backend whose client connects to the server whatever the host. */
    private static LoginBackend backendOf(Countersign cs) throws Exception {
        HttpHost server = HttpHost.create(cs.url());
        HttpClientBuilder connection = HttpClientBuilder.create()
                .setRoutePlanner((target, context) -> new HttpRoute(server))
                .addRequestInterceptorLast(
                        (request, entity, context) -> request.setHeader("Host", server.toHostString()));
        TwilioRestClient client = new TwilioRestClient.Builder(cs.accountSid(), cs.authToken())
                .httpClient(new NetworkHttpClient(connection))
                .build();
        return new LoginBackend(client, cs.authToken(), cs.serviceSid());
    }

    @Test
    void loginWaitsForThePhone(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            Device phone = cs.device(USER, Behaviour.IGNORE);
            String login = backend.startLogin(USER);
            assertEquals("waiting", backend.state(USER, login));
            phone.approve();
            assertEquals("signed in", backend.state(USER, login));
        }
    }

    @Test
    void deniedLoginIsRefused(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            Device phone = cs.device(USER, Behaviour.IGNORE);
            String login = backend.startLogin(USER);
            phone.deny();
            assertEquals("refused", backend.state(USER, login));
            RequestException refused = assertThrows(RequestException.class, () -> phone.approve(login));
            assertEquals(409, refused.status());
        }
    }

    @Test
    void webhookReportsAnApproval(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            backend.subscribe();
            Device phone = cs.device(USER, Behaviour.APPROVE);
            String login = backend.startLogin(USER);
            Webhook webhook = cs.webhooks().await(Webhook::isDelivered, TIMEOUT);
            assertEquals("challenge.approved", webhook.type());
            assertEquals(login, webhook.challengeSid());
            assertEquals(phone.factorSid(), webhook.factorSid());
            assertEquals("signed in", backend.known(login));
        }
    }

    @Test
    void returnedWebhookHasBeenHandled(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            backend.subscribe();
            backend.delay = Duration.ofMillis(300);
            cs.device(USER, Behaviour.APPROVE);
            String login = backend.startLogin(USER);
            cs.webhooks().await(webhook -> true, TIMEOUT);
            assertEquals("signed in", backend.known(login));
        }
    }

    @Test
    void pushAsksThePhone(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            Device phone = cs.device(USER, Behaviour.IGNORE, Map.of("push", "apn"));
            String login = backend.startLogin(USER);
            Push push = cs.pushes().await(sent -> sent.factorSid().equals(phone.factorSid()), TIMEOUT);
            assertEquals("apn", push.provider());
            assertEquals(login, push.challengeSid());
            assertEquals("delivered", push.outcome());
        }
    }

    @Test
    void codeOnThePhoneIsThatOfTheLogin(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            Device phone = cs.device(USER, Behaviour.IGNORE);
            backend.startLogin(USER, "47");
            assertEquals("47", phone.approve().field("code"));
        }
    }

    @Test
    @OwnServer
    void loginTimesOutWhenNobodyAnswers(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            cs.device(USER, Behaviour.IGNORE);
            String login = backend.startLogin(USER);
            cs.clock().advance(Duration.ofMinutes(4));
            assertEquals("waiting", backend.state(USER, login));
            cs.clock().advance(Duration.ofSeconds(61));
            assertEquals("timed out", backend.state(USER, login));
        }
    }

    @Test
    @OwnServer
    void failedWebhookIsSentAgainAndDelaysNoLogin(Countersign cs) throws Exception {
        try (LoginBackend backend = backendOf(cs)) {
            backend.subscribe();
            backend.isBroken = true;
            Device phone = cs.device(USER, Behaviour.IGNORE);
            String login = backend.startLogin(USER);
            cs.clock().freeze();
            phone.approve();
            Webhook failed = cs.webhooks().await(webhook -> !webhook.attempts().isEmpty(), TIMEOUT);
            assertEquals("again", failed.attempts().get(0).ending());
            assertEquals(500, failed.attempts().get(0).status());
            assertEquals("waiting", backend.known(login));
            assertEquals("signed in", backend.state(USER, login));

            backend.isBroken = false;
            cs.clock().advance(Duration.ofSeconds(10));
            cs.webhooks().await(Webhook::isDelivered, TIMEOUT);
        }
    }
}
