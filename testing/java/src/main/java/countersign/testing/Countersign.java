package countersign.testing;

import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Supplier;

/** An account on a server in test mode, with a service. A test method takes it as a parameter. */
public final class Countersign {
    private static final int SHOWN_CAPTURES = 5;
    private final Server server;
    private final Values account;
    private final String serviceSid;
    private final Captures<Push> pushes;
    private final Captures<Webhook> webhooks;
    /** Threads of a test can share the account. */
    private final List<Device> devices = new CopyOnWriteArrayList<>();

    /** Creates a new account on a server. */
    public Countersign(Server server, String friendlyName) {
        this.server = server;
        Map<String, Object> body = Map.of("friendly_name", nameOf(friendlyName));
        account = new Values(server.request("POST", "/accounts", body, Duration.ZERO));
        pushes = new Captures<>(server, "pushes", accountSid(), Push::new);
        webhooks = new Captures<>(server, "webhooks", accountSid(), Webhook::new);
        serviceSid = createService("Test service");
    }

    /** Returns a name without what the server refuses in names, because that of a test can have any characters. */
    private static String nameOf(String friendlyName) {
        return friendlyName
                .codePoints()
                .limit(64)
                .map(character -> Character.isISOControl(character) ? ' ' : character)
                .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
                .toString();
    }

    public Server server() {
        return server;
    }

    public String url() {
        return server.url();
    }

    public String accountSid() {
        return account.text("account_sid");
    }

    public String authToken() {
        return account.text("auth_token");
    }

    public String apiKeySid() {
        return account.text("api_key_sid");
    }

    public String apiKeySecret() {
        return account.text("api_key_secret");
    }

    /** Returns the SID of the account's service. */
    public String serviceSid() {
        return serviceSid;
    }

    /** Creates a further service and returns its SID. */
    public String createService(String friendlyName) {
        return new Values(post("/v2/Services", Map.of("FriendlyName", friendlyName))).text("sid");
    }

    Object post(String path, Map<String, String> parameters) {
        return server.post(accountSid(), authToken(), path, parameters);
    }

    /** Enrolls a phone for a user in the account's service. */
    public Device device(String identity, Behaviour behaviour) {
        return device(identity, behaviour, Map.of());
    }

    /** Enrolls a phone with further members of the body of {@code POST /devices}, for example {@code push}. */
    public Device device(String identity, Behaviour behaviour, Map<String, Object> more) {
        Map<String, Object> body = new LinkedHashMap<>();
        body.put("account_sid", accountSid());
        body.put("service_sid", serviceSid);
        body.put("identity", identity);
        body.put("behaviour", behaviour.json());
        body.putAll(more);
        Device device = new Device(server, server.request("POST", "/devices", body, Duration.ZERO));
        devices.add(device);
        return device;
    }

    public Captures<Push> pushes() {
        return pushes;
    }

    public Captures<Webhook> webhooks() {
        return webhooks;
    }

    /** Returns the clock, in a test with a server of its own. */
    public Clock clock() {
        return server.clock();
    }

    /** Returns the logs of the account's phones and its last captures, for the output of a failed test. */
    public String report() {
        List<String> lines = new ArrayList<>(List.of(url() + ", account " + accountSid()));
        for (Device device : devices) {
            lines.add("log of the phone of " + device.identity() + ", factor " + device.factorSid());
            show(lines, device::log);
        }
        lines.add("last pushes");
        show(lines, () -> pushes.last(SHOWN_CAPTURES));
        lines.add("last webhooks");
        show(lines, () -> webhooks.last(SHOWN_CAPTURES));
        return String.join("\n", lines);
    }

    private static void show(List<String> lines, Supplier<List<?>> read) {
        try {
            List<?> found = read.get();
            found.forEach(item -> lines.add("  " + item));
            if (found.isEmpty()) {
                lines.add("  none");
            }
        } catch (RuntimeException error) {
            lines.add("  not available: " + error.getMessage());
        }
    }
}
