import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.json.JSONException;
import org.json.JSONObject;

/** The backend of an app, which calls the server over plain HTTP. */
final class Backend {
    private final HttpClient client = HttpClient.newHttpClient();
    private final String origin = System.getenv("BASE_URL");
    private final String login = Base64.getEncoder()
            .encodeToString((System.getenv("ACCOUNT_SID") + ":" + System.getenv("AUTH_TOKEN")).getBytes());
    private final String service;

    Backend(String friendlyName) throws Exception {
        service = post("/v2/Services", "FriendlyName", friendlyName).getString("sid");
    }

    String service() {
        return service;
    }

    /** Creates an access token with which one phone may enroll. */
    String accessToken(String identity) throws Exception {
        return post(path("AccessTokens"), "Identity", identity, "FactorType", "push").getString("token");
    }

    String challenge(String identity, String factorSid, String... more) throws Exception {
        var fields = new String[more.length + 2];
        fields[0] = "FactorSid";
        fields[1] = factorSid;
        System.arraycopy(more, 0, fields, 2, more.length);
        return post(path("Entities/" + identity + "/Challenges"), fields).getString("sid");
    }

    JSONObject challenge(String identity, String sid) throws Exception {
        return new JSONObject(get(path("Entities/" + identity + "/Challenges/" + sid)).body());
    }

    JSONObject factor(String identity, String sid) throws Exception {
        return new JSONObject(get(path("Entities/" + identity + "/Factors/" + sid)).body());
    }

    void deleteFactor(String identity, String sid) throws Exception {
        var url = path("Entities/" + identity + "/Factors/" + sid);
        var status = send(request(url).DELETE()).statusCode();
        if (status != 204) {
            throw new IOException("DELETE " + url + " was answered with " + status);
        }
    }

    private String path(String rest) {
        return "/v2/Services/" + service + "/" + rest;
    }

    private JSONObject post(String path, String... fields) throws IOException, InterruptedException, JSONException {
        var body = new StringBuilder();
        for (int i = 0; i < fields.length; i += 2) {
            body.append(i == 0 ? "" : "&").append(fields[i]).append('=');
            body.append(URLEncoder.encode(fields[i + 1], StandardCharsets.UTF_8));
        }
        var publisher = HttpRequest.BodyPublishers.ofString(body.toString());
        var response = send(request(path).header("Content-Type", "application/x-www-form-urlencoded").POST(publisher));
        if (response.statusCode() != 201) {
            throw new IOException("POST " + path + " was answered with " + response.body());
        }
        return new JSONObject(response.body());
    }

    private HttpResponse<String> get(String path) throws IOException, InterruptedException {
        return send(request(path).GET());
    }

    private HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(origin + path)).header("Authorization", "Basic " + login);
    }

    private HttpResponse<String> send(HttpRequest.Builder request) throws IOException, InterruptedException {
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }
}
