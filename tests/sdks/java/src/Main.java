import com.twilio.Twilio;
import com.twilio.http.NetworkHttpClient;
import com.twilio.http.TwilioRestClient;
import com.twilio.rest.verify.v2.Service;
import com.twilio.rest.verify.v2.service.Entity;
import java.net.URISyntaxException;
import org.apache.hc.client5.http.HttpRoute;
import org.apache.hc.client5.http.impl.classic.HttpClientBuilder;
import org.apache.hc.core5.http.HttpHost;

/**
 * Every served operation, called through Twilio's own Java library.
 *
 * <p>The backend's calls use only the library; the phone's key and its signatures are in Phone.
 */
public final class Main {
    static final String BASE_URL = System.getenv("BASE_URL");
    static final String ACCOUNT_SID = System.getenv("ACCOUNT_SID");
    static final String AUTH_TOKEN = System.getenv("AUTH_TOKEN");
    static final String IDENTITY = "java-user-0001";

    private Main() {}

    /** Connects to the server whatever the host, because the library has no setting for the address. */
    static TwilioRestClient.Builder clientOf(String user, String password) {
        HttpHost server = server();
        boolean secure = server.getSchemeName().equals("https");
        HttpClientBuilder connection = HttpClientBuilder.create()
                .setRoutePlanner((target, context) -> new HttpRoute(server, null, secure))
                // Otherwise the server would get Twilio's host, and its links would lead there.
                .addRequestInterceptorLast(
                        (request, entity, context) -> request.setHeader("Host", server.toHostString()));
        return new TwilioRestClient.Builder(user, password).httpClient(new NetworkHttpClient(connection));
    }

    /** Returns a client without the interceptor. */
    static TwilioRestClient clientWithTwiliosHost() {
        HttpHost server = server();
        boolean secure = server.getSchemeName().equals("https");
        HttpClientBuilder connection = HttpClientBuilder.create()
                .setRoutePlanner((target, context) -> new HttpRoute(server, null, secure));
        return new TwilioRestClient.Builder(ACCOUNT_SID, AUTH_TOKEN)
                .httpClient(new NetworkHttpClient(connection))
                .build();
    }

    private static HttpHost server() {
        try {
            return HttpHost.create(BASE_URL);
        } catch (URISyntaxException error) {
            throw new IllegalArgumentException(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("client twilio-java " + Twilio.VERSION);
        TwilioRestClient client = clientOf(ACCOUNT_SID, AUTH_TOKEN).build();
        Resources resources = new Resources(client);
        resources.services();
        resources.entities();
        resources.accessTokens();
        resources.factors();
        resources.challenges();
        resources.notifications();
        Deliveries deliveries = new Deliveries(client, resources);
        deliveries.webhooks();
        deliveries.alerts();
        deliveries.credentials();
        resources.rateLimits();
        resources.messagingConfigurations();
        resources.safeList();
        new Totp(client, resources.service).all();
        resources.templates();
        resources.verifications();
        resources.attempts();
        resources.failures();
        Keys keys = new Keys(client);
        keys.account();
        keys.all();
        resources.apiKey();

        // Many programs set one global client.
        Twilio.setRestClient(client);
        Checks.equal(Service.fetcher(resources.service).fetch().getSid(), resources.service);
        Checks.ok("the client for all calls");

        Checks.equal(Entity.deleter(resources.service, IDENTITY).delete(client), true);
        Checks.refused(404, 20404, () -> Entity.fetcher(resources.service, IDENTITY).fetch(client));
        Checks.ok("entities delete");
        Checks.equal(Service.deleter(resources.service).delete(client), true);
        Checks.refused(404, 20404, () -> Service.fetcher(resources.service).fetch(client));
        Checks.ok("services delete");
    }
}
