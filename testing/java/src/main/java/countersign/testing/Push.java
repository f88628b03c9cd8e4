package countersign.testing;

import java.util.Map;

/** A captured push: what would have gone to the provider. */
public record Push(Map<String, Object> json) {
    /** Returns {@code fcm} or {@code apn}. */
    public String provider() {
        return values().text("provider");
    }

    public String factorSid() {
        return values().text("factor_sid");
    }

    public String challengeSid() {
        return values().text("challenge_sid");
    }

    /** Returns {@code delivered}, {@code unavailable}, {@code gone} or {@code refused}. */
    public String outcome() {
        return values().text("outcome");
    }

    /** Returns the body that would have gone out. */
    public Map<String, Object> body() {
        return values().object("body").members();
    }

    private Values values() {
        return new Values(json);
    }

    @Override
    public String toString() {
        return values().words("at", "provider", "challenge_sid", "outcome");
    }
}
