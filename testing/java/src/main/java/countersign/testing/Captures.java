package countersign.testing;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.Predicate;

/** The captured pushes or webhooks of an account. */
public final class Captures<T> {
    private static final long POLL_MILLISECONDS = 20;
    /** The shortest wait. Without one, the server also returns webhooks whose first attempt still runs. */
    private static final Duration MIN_WAIT = Duration.ofMillis(1);
    /** The longest wait of one request. */
    private static final Duration MAX_WAIT = Duration.ofMinutes(1);

    private final Server server;
    private final String path;
    private final Function<Map<String, Object>, T> read;

    Captures(Server server, String kind, String accountSid, Function<Map<String, Object>, T> read) {
        this.server = server;
        this.path = "/" + kind + "?account_sid=" + accountSid;
        this.read = read;
    }

    /** Returns all, oldest first. */
    public List<T> list() {
        return get("", Duration.ZERO);
    }

    /** Returns the newest ones, oldest first. */
    public List<T> last(int limit) {
        return get("&limit=" + limit, Duration.ZERO);
    }

    private List<T> get(String more, Duration wait) {
        List<?> found = (List<?>) server.request("GET", path + more, null, wait);
        return found.stream()
                .map(item -> read.apply(new Values((Object) item).members()))
                .toList();
    }

    /**
     * Returns the newest capture that fits, after waiting for it.
     *
     * <p>A webhook fits only after its first attempt, so the backend has handled it.
     *
     * @throws AssertionError if none fits in time
     */
    public T await(Predicate<T> fits, Duration timeout) {
        long end = System.nanoTime() + timeout.toNanos();
        while (true) {
            Duration wait = waitUntil(end);
            List<T> found = get("&wait=" + wait.toMillis() / 1000.0, wait);
            for (int at = found.size() - 1; at >= 0; at--) {
                if (fits.test(found.get(at))) {
                    return found.get(at);
                }
            }
            if (System.nanoTime() > end) {
                throw new AssertionError("none of the %d captures fits after %s".formatted(found.size(), timeout));
            }
            try {
                // The server does not know the predicate, so it returns at once what the account has.
                Thread.sleep(POLL_MILLISECONDS);
            } catch (InterruptedException error) {
                throw Server.interrupted(error);
            }
        }
    }

    /** Returns the wait of a request that is to end at this value of {@link System#nanoTime}. */
    private static Duration waitUntil(long end) {
        Duration left = Duration.ofNanos(end - System.nanoTime());
        if (left.compareTo(MIN_WAIT) < 0) {
            return MIN_WAIT;
        }
        return left.compareTo(MAX_WAIT) > 0 ? MAX_WAIT : left;
    }

    /** Removes all. */
    public void clear() {
        server.request("DELETE", path, null, Duration.ZERO);
    }
}
