package countersign.testing;

import java.time.Duration;
import java.util.Map;

/** What a phone does with challenges. */
public final class Behaviour {
    public static final Behaviour APPROVE = new Behaviour("approve");
    public static final Behaviour DENY = new Behaviour("deny");
    /** Leaves each challenge to the test, or to its expiry. */
    public static final Behaviour IGNORE = new Behaviour("ignore");
    public static final Behaviour LATE = new Behaviour("late");
    public static final Behaviour TWICE = new Behaviour("twice");
    public static final Behaviour WRONG_SIGNATURE = new Behaviour("wrong_signature");
    public static final Behaviour TAMPERED = new Behaviour("tampered");
    public static final Behaviour STALE_TOKEN = new Behaviour("stale_token");
    public static final Behaviour WRONG_CLOCK = new Behaviour("wrong_clock");
    public static final Behaviour LOST_ANSWER = new Behaviour("lost_answer");
    public static final Behaviour UNINSTALL = new Behaviour("uninstall");
    public static final Behaviour OFFLINE = new Behaviour("offline");

    private final Object json;

    private Behaviour(Object json) {
        this.json = json;
    }

    /** Returns the behaviour of a phone that approves after a delay. */
    public static Behaviour approveAfter(Duration delay) {
        return of(Map.of("default", Map.of("do", "approve", "after", delay.toMillis() / 1000.0)));
    }

    /** Returns a behaviour with default, script and rules, as in the body of {@code POST /devices}. */
    public static Behaviour of(Map<String, Object> members) {
        return new Behaviour(members);
    }

    Object json() {
        return json;
    }
}
