package countersign.testing;

/** The server could not be started, or the fixture was used in a way that cannot work. */
public class CountersignException extends RuntimeException {
    private static final long serialVersionUID = 1;

    CountersignException(String message) {
        super(message);
    }

    CountersignException(String message, Throwable cause) {
        super(message, cause);
    }
}
