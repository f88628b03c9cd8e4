package countersign.testing;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.Predicate;

/** The captured pushes or webhooks of an account. */
public final class Captures<T> {
    private static final long POLL_MILLISECONDS = 20;
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
        return get("");
    }

    /** Returns the newest ones, oldest first. */
    public List<T> last(int limit) {
        return get("&limit=" + limit);
    }

    private List<T> get(String more) {
        List<?> found = (List<?>) server.request("GET", path + more, null, Duration.ZERO);
        return found.stream()
                .map(item -> read.apply(new Values((Object) item).members()))
                .toList();
    }

    /**
     * Returns the newest capture that fits, after waiting for it.
     *
     * @throws AssertionError if none fits in time
     */
    public T await(Predicate<T> fits, Duration timeout) {
        long end = System.nanoTime() + timeout.toNanos();
        while (true) {
            List<T> found = list();
            for (int at = found.size() - 1; at >= 0; at--) {
                if (fits.test(found.get(at))) {
                    return found.get(at);
                }
            }
            if (System.nanoTime() > end) {
                throw new AssertionError("none of the %d captures fits after %s".formatted(found.size(), timeout));
            }
            try {
                Thread.sleep(POLL_MILLISECONDS);
            } catch (InterruptedException error) {
                throw Server.interrupted(error);
            }
        }
    }

    /** Removes all. */
    public void clear() {
        server.request("DELETE", path, null, Duration.ZERO);
    }
}
