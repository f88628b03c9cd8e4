import com.twilio.base.Reader;
import com.twilio.base.Resource;
import com.twilio.exception.ApiException;
import com.twilio.http.TwilioRestClient;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;

/** Assertions that all checks share. */
final class Checks {
    private Checks() {}

    static void ok(String operation) {
        System.out.println("ok " + operation);
    }

    static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(actual + " is not " + expected);
        }
    }

    static void isTrue(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** Checks that a call throws the library's own exception. */
    static ApiException refused(int status, int code, Runnable call) {
        try {
            call.run();
        } catch (ApiException error) {
            equal(List.of(error.getStatusCode(), error.getCode()), List.of(status, code));
            equal(error.getMoreInfo(), "https://www.twilio.com/docs/errors/" + code);
            isTrue(!error.getMessage().isEmpty(), "no message");
            return error;
        }
        throw new AssertionError("not refused");
    }

    /** Returns a value of an object that the library does not type. */
    static Object member(Object object, String name) {
        return ((Map<?, ?>) object).get(name);
    }

    /** Returns all items of a reader, over all pages. */
    static <T extends Resource> List<String> texts(TwilioRestClient client, Reader<T> reader, Function<T, String> text) {
        List<String> texts = new ArrayList<>();
        for (T item : reader.read(client)) {
            texts.add(text.apply(item));
        }
        return texts;
    }

    /** Returns the expected SIDs of a list, because other suites may have left resources too. */
    static List<String> among(List<String> list, List<String> own) {
        return list.stream().filter(own::contains).toList();
    }

    static List<String> reversed(List<String> list) {
        List<String> turned = new ArrayList<>(list);
        Collections.reverse(turned);
        return turned;
    }
}
