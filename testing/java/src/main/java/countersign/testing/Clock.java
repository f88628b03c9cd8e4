package countersign.testing;

import java.time.Duration;
import java.time.Instant;
import java.util.Map;

/** The clock of a server. It moves forward only. Each method returns the server's time. */
public final class Clock {
    private final Server server;

    Clock(Server server) {
        this.server = server;
    }

    /** Returns the server's time. */
    public Instant now() {
        return ask("GET", null);
    }

    /** Moves the clock forward. */
    public Instant advance(Duration by) {
        return ask("POST", Map.of("advance", by.toMillis() / 1000.0));
    }

    /** Moves the clock forward to an instant. */
    public Instant travelTo(Instant to) {
        return ask("POST", Map.of("to", to.toString()));
    }

    /** Stops the clock. {@link #advance} and {@link #travelTo} still move it. */
    public Instant freeze() {
        return ask("POST", Map.of("freeze", true));
    }

    /** Lets a frozen clock go on. */
    public Instant resume() {
        return ask("POST", Map.of("resume", true));
    }

    private Instant ask(String method, Object body) {
        return new Values(server.request(method, "/clock", body, Duration.ZERO)).instant("now");
    }
}
