package countersign.testing;

/** The server refused a request. */
public final class RequestException extends CountersignException {
    private static final long serialVersionUID = 1;
    private final int status;
    private final long code;

    RequestException(String method, String path, int status, long code, String message) {
        super("%s %s: %d, code %d: %s".formatted(method, path, status, code, message));
        this.status = status;
        this.code = code;
    }

    /** Returns the HTTP status. */
    public int status() {
        return status;
    }

    /** Returns the error code of the API, or 0 if there is none. */
    public long code() {
        return code;
    }
}
