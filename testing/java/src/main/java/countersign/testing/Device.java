package countersign.testing;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A phone of the server. */
public final class Device {
    private static final Duration WAIT = Duration.ofSeconds(5);
    private final Server server;
    private Values values;

    Device(Server server, Object json) {
        this.server = server;
        values = new Values(json);
    }

    public String id() {
        return values.text("id");
    }

    public String serviceSid() {
        return values.text("service_sid");
    }

    public String identity() {
        return values.text("identity");
    }

    public String factorSid() {
        return values.text("factor_sid");
    }

    /** Returns {@code verified}, {@code unverified} or {@code removed}. */
    public String status() {
        return values.text("status");
    }

    /** Returns the SIDs of the pending challenges. */
    public List<String> pending() {
        return values.list("pending").stream().map(Object::toString).toList();
    }

    /** Returns all members of the JSON, among them the key. */
    public Map<String, Object> json() {
        return values.members();
    }

    /**
     * Approves the newest pending challenge, for which it waits up to five seconds, and returns it as the phone shows it.
     *
     * @throws RequestException if the API refuses the answer
     */
    public Challenge approve() {
        return answer("approve", null, WAIT);
    }

    /** Approves a challenge. */
    public Challenge approve(String challengeSid) {
        return answer("approve", challengeSid, Duration.ZERO);
    }

    /** Denies the newest pending challenge, otherwise like {@link #approve()}. */
    public Challenge deny() {
        return answer("deny", null, WAIT);
    }

    /** Denies a challenge. */
    public Challenge deny(String challengeSid) {
        return answer("deny", challengeSid, Duration.ZERO);
    }

    private Challenge answer(String answer, String challengeSid, Duration wait) {
        Map<String, Object> body = new LinkedHashMap<>(Map.of("wait", wait.toSeconds()));
        if (challengeSid != null) {
            body.put("challenge_sid", challengeSid);
        }
        return new Challenge(server.request("POST", "/devices/" + id() + "/" + answer, body, wait));
    }

    /** Replaces the behaviour. */
    public void behave(Behaviour behaviour) {
        Map<String, Object> body = Map.of("behaviour", behaviour.json());
        values = new Values(server.request("PATCH", "/devices/" + id(), body, Duration.ZERO));
    }

    /** Reads the device again, for example its status and its pending challenges. */
    public Device refresh() {
        values = new Values(server.request("GET", "/devices/" + id(), null, Duration.ZERO));
        return this;
    }

    /** Returns the steps of this phone, oldest first. */
    public List<String> log() {
        List<?> steps = (List<?>) server.request("GET", "/devices/" + id() + "/log", null, Duration.ZERO);
        return steps.stream()
                .map(step -> new Values((Object) step)
                        .words("at", "what", "challenge_sid", "do", "status", "code", "words"))
                .toList();
    }

    /** Deletes the factor and the phone, as an app does when its user signs out. */
    public void delete() {
        server.request("DELETE", "/devices/" + id(), null, Duration.ZERO);
    }
}
