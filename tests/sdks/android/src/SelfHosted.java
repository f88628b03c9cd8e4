import com.twilio.verify.networking.FailureResponse;
import com.twilio.verify.networking.NetworkException;
import com.twilio.verify.networking.NetworkProvider;
import com.twilio.verify.networking.Request;
import com.twilio.verify.networking.Response;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import kotlin.Unit;
import kotlin.jvm.functions.Function1;

/**
 * The network provider of an app with a self-hosted server: sends the SDK's requests to another origin.
 *
 * It also records requests and responses, and can return one forged response instead.
 */
final class SelfHosted implements NetworkProvider {
    final List<String> log = new ArrayList<>();
    private final String origin;
    private Response answer;
    private NetworkException refusal;

    SelfHosted(String origin) {
        this.origin = origin;
    }

    /** Sets the response to the next request, which is not sent. */
    void answerNext(String body) {
        answer = new Response(body, Map.of());
    }

    void refuseNext(int status, Map<String, List<String>> headers) {
        refusal = new NetworkException(new FailureResponse(status, "{}", headers));
    }

    @Override
    public void execute(
            Request request,
            Function1<? super Response, Unit> success,
            Function1<? super NetworkException, Unit> error) {
        if (refusal != null) {
            var now = refusal;
            refusal = null;
            error.invoke(now);
            return;
        }
        if (answer != null) {
            var now = answer;
            answer = null;
            success.invoke(now);
            return;
        }
        Response response;
        NetworkException failure;
        try {
            var connection = (HttpURLConnection) new URL(origin + request.getUrl().getFile()).openConnection();
            connection.setRequestMethod(request.getHttpMethod().getMethod());
            request.getHeaders().forEach(connection::setRequestProperty);
            var body = request.getParams();
            if (body != null && !body.isEmpty()) {
                connection.setDoOutput(true);
                try (var output = connection.getOutputStream()) {
                    output.write(body.getBytes(StandardCharsets.UTF_8));
                }
            }
            var status = connection.getResponseCode();
            var text = text(status < 400 ? connection.getInputStream() : connection.getErrorStream());
            log.add(request.getHttpMethod().getMethod() + " " + status);
            var good = status < 300;
            var headers = connection.getHeaderFields();
            response = good ? new Response(text, headers) : null;
            failure = good ? null : new NetworkException(new FailureResponse(status, text, headers));
        } catch (Exception exception) {
            response = null;
            failure = new NetworkException(exception);
        }
        // Outside of the try, because exceptions of the SDK's callback must not be caught here.
        if (response != null) {
            success.invoke(response);
        } else {
            error.invoke(failure);
        }
    }

    private static String text(InputStream stream) throws Exception {
        if (stream == null) {
            return "";
        }
        try (stream) {
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
