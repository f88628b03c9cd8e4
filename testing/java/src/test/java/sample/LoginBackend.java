package sample;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.twilio.http.TwilioRestClient;
import com.twilio.rest.verify.v2.service.Webhook;
import com.twilio.rest.verify.v2.service.entity.Challenge;
import com.twilio.rest.verify.v2.service.entity.Factor;
import com.twilio.security.RequestValidator;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The backend under test: a sign-in that the user's phone approves, written with Twilio's library alone. */
final class LoginBackend implements AutoCloseable {
    private static final Map<String, String> STATES =
            Map.of("pending", "waiting", "approved", "signed in", "denied", "refused", "expired", "timed out");

    private final TwilioRestClient client;
    private final String service;
    private final RequestValidator validator;
    private final HttpServer http;
    private final Map<String, String> states = new ConcurrentHashMap<>();

    /** While it is set, the endpoint for webhooks answers 500. */
    volatile boolean isBroken;

    /** The time that the endpoint takes before it handles a webhook. */
    volatile Duration delay = Duration.ZERO;

    LoginBackend(TwilioRestClient client, String authToken, String service) throws IOException {
        this.client = client;
        this.service = service;
        validator = new RequestValidator(authToken);
        http = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        http.createContext("/webhooks", this::receive);
        http.start();
    }

    private String url() {
        return "http://127.0.0.1:" + http.getAddress().getPort() + "/webhooks";
    }

    void subscribe() {
        List<String> types = List.of("challenge.approved", "challenge.denied");
        Webhook.creator(service, "sign-ins", types, url())
                .setVersion(Webhook.Version.V2)
                .create(client);
    }

    /**
     * Sends a challenge, which expires after five minutes, to the user's phone.
     *
     * @return the SID of the sign-in
     */
    String startLogin(String identity) {
        return Challenge.creator(service, identity, factorOf(identity))
                .setDetailsMessage("Sign in to Example Bank?")
                .create(client)
                .getSid();
    }

    /** Starts a sign-in with a code that the phone shows and that the user types. */
    String startLogin(String identity, String code) {
        return Challenge.creator(service, identity, factorOf(identity))
                .setDetailsMessage("Sign in to Example Bank?")
                .setDetailsFields(Map.of("label", "Code", "value", code))
                .create(client)
                .getSid();
    }

    private String factorOf(String identity) {
        for (Factor factor : Factor.reader(service, identity).read(client)) {
            if (factor.getStatus() == Factor.FactorStatuses.VERIFIED) {
                return factor.getSid();
            }
        }
        throw new IllegalStateException("the user has no verified phone");
    }

    /** Returns the state of a sign-in. A webhook may be lost, so the API decides. */
    String state(String identity, String login) {
        String status = Challenge.fetcher(service, identity, login).fetch(client).getStatus().toString();
        states.put(login, STATES.get(status));
        return states.get(login);
    }

    /** Returns the state that the backend knows without asking the API. */
    String known(String login) {
        return states.getOrDefault(login, "waiting");
    }

    private void receive(HttpExchange exchange) throws IOException {
        Map<String, String> parameters = new HashMap<>();
        String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
        for (String pair : body.split("&")) {
            String[] parts = pair.split("=", 2);
            parameters.put(decode(parts[0]), decode(parts[1]));
        }
        String signature = exchange.getRequestHeaders().getFirst("X-Twilio-Signature");
        try {
            Thread.sleep(delay.toMillis());
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
        int status = 204;
        if (isBroken) {
            status = 500;
        } else if (!validator.validate(url(), parameters, signature)) {
            status = 403;
        } else {
            String type = parameters.get("type").replace("challenge.", "");
            states.put(parameters.get("challenge_sid"), STATES.get(type));
        }
        exchange.sendResponseHeaders(status, -1);
        exchange.close();
    }

    private static String decode(String text) {
        return URLDecoder.decode(text, StandardCharsets.UTF_8);
    }

    @Override
    public void close() {
        http.stop(0);
    }
}
