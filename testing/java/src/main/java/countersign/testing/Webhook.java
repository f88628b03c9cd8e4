package countersign.testing;

import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** A captured webhook with its attempts. */
public record Webhook(Map<String, Object> json) {
    /** Returns the type, for example {@code challenge.approved}. */
    public String type() {
        List<Values> events = events();
        return events.isEmpty() ? parameters().get("type") : events.get(0).text("type");
    }

    public String challengeSid() {
        return parameters().get("challenge_sid");
    }

    public String factorSid() {
        return parameters().get("factor_sid");
    }

    public String url() {
        return values().text("url");
    }

    public Map<String, String> parameters() {
        return values().object("parameters").texts();
    }

    public Map<String, String> headers() {
        return values().object("headers").texts();
    }

    public List<Attempt> attempts() {
        return values().objects("attempts").stream()
                .map(attempt -> new Attempt(
                        attempt.text("ending"), (int) attempt.number("status"), attempt.words("ending", "status", "words")))
                .toList();
    }

    /** Returns whether the receiver has accepted the webhook. */
    public boolean isDelivered() {
        return attempts().stream().anyMatch(attempt -> attempt.ending().equals("delivered"));
    }

    /** Returns the CloudEvents of a verification event's body; none for other webhooks. */
    private List<Values> events() {
        return values().objects("body");
    }

    private Values values() {
        return new Values(json);
    }

    @Override
    public String toString() {
        String attempts = attempts().stream().map(Attempt::words).collect(Collectors.joining(", "));
        return "%s %s to %s: %s"
                .formatted(values().text("at"), type(), url(), attempts.isEmpty() ? "no attempt yet" : attempts);
    }

    /**
     * One attempt to deliver a webhook.
     *
     * @param ending {@code delivered}, {@code again}, {@code failed}, {@code skipped} or {@code kept}
     * @param status the HTTP status, or 0 without a response
     * @param words all of it for people
     */
    public record Attempt(String ending, int status, String words) {}
}
