import com.twilio.http.TwilioRestClient;
import com.twilio.rest.api.v2010.Account;
import com.twilio.rest.api.v2010.account.Key;
import com.twilio.rest.api.v2010.account.NewKey;
import com.twilio.rest.iam.v1.ApiKey;
import com.twilio.rest.iam.v1.GetApiKeys;
import com.twilio.rest.iam.v1.NewApiKey;
import java.util.ArrayList;
import java.util.List;

/** The account, and its API keys at both of their addresses. */
final class Keys {
    private final TwilioRestClient client;

    Keys(TwilioRestClient client) {
        this.client = client;
    }

    private static TwilioRestClient clientOf(String sid, String secret) {
        return Main.clientOf(sid, secret).accountSid(Main.ACCOUNT_SID).build();
    }

    /** Fetches the account, with which many programs check their credentials. */
    void account() {
        TwilioRestClient key = clientOf(System.getenv("API_KEY_SID"), System.getenv("API_KEY_SECRET"));
        for (TwilioRestClient caller : List.of(client, key)) {
            Account fetched = Account.fetcher(Main.ACCOUNT_SID).fetch(caller);
            Checks.equal(fetched.getSid(), Main.ACCOUNT_SID);
            Checks.equal(fetched.getOwnerAccountSid(), Main.ACCOUNT_SID);
            Checks.equal(fetched.getStatus(), Account.Status.ACTIVE);
            Checks.equal(fetched.getType(), Account.Type.FULL);
            Checks.equal(fetched.getAuthToken(), "");
            Checks.isTrue(fetched.getDateCreated() != null, "no date");
            Checks.equal(fetched.getUri(), "/2010-04-01/Accounts/" + Main.ACCOUNT_SID + ".json");
        }
        Checks.refused(404, 20404, () -> Account.fetcher("AC" + "0".repeat(32)).fetch(client));
        TwilioRestClient wrong = Main.clientOf(Main.ACCOUNT_SID, "f".repeat(32)).build();
        Checks.refused(401, 20003, () -> Account.fetcher(Main.ACCOUNT_SID).fetch(wrong));
        Checks.ok("account fetch");
    }

    /** Creates, lists, renames and deletes keys. The key of the environment exists already. */
    void all() {
        List<String> made = new ArrayList<>(List.of(System.getenv("API_KEY_SID")));
        List<String> secrets = new ArrayList<>(List.of(System.getenv("API_KEY_SECRET")));
        for (int number = 0; number < 2; number++) {
            NewKey key = NewKey.creator().setFriendlyName("Owls").create(client);
            made.add(key.getSid());
            secrets.add(key.getSecret());
        }
        for (int number = 0; number < 2; number++) {
            NewApiKey key = NewApiKey.creator(Main.ACCOUNT_SID).create(client);
            Checks.equal(key.getFriendlyName(), "API key");
            Checks.equal(key.getPolicy(), null);
            made.add(key.getSid());
            secrets.add(key.getSecret());
        }
        Checks.refused(400, 60306, () -> NewApiKey.creator(Main.ACCOUNT_SID)
                .setKeyType("restricted")
                .create(client));
        TwilioRestClient own = clientOf(made.get(1), secrets.get(1));
        Checks.refused(403, 20403, () -> NewKey.creator().create(own));
        Checks.ok("API keys create");

        Checks.equal(Checks.texts(client, Key.reader().pageSize(2), Key::getSid), made);
        Checks.equal(
                Checks.texts(client, GetApiKeys.reader(Main.ACCOUNT_SID).pageSize(2), GetApiKeys::getSid), made);
        Checks.ok("API keys list");

        String first = made.get(1);
        String second = made.get(3);
        Checks.equal(Key.updater(first).setFriendlyName("Barn owls").update(client).getFriendlyName(), "Barn owls");
        Checks.equal(ApiKey.fetcher(first).fetch(client).getFriendlyName(), "Barn owls");
        ApiKey renamed = ApiKey.updater(second).setFriendlyName("Snowy owls").update(client);
        Checks.equal(renamed.getFriendlyName(), "Snowy owls");
        Checks.equal(Key.fetcher(second).fetch(client).getFriendlyName(), "Snowy owls");
        Checks.ok("API keys update, fetch");

        for (int number = 1; number < made.size(); number++) {
            String sid = made.get(number);
            Checks.equal(number < 3 ? Key.deleter(sid).delete(client) : ApiKey.deleter(sid).delete(client), true);
            Checks.refused(404, 20404, () -> Key.fetcher(sid).fetch(client));
            TwilioRestClient deleted = clientOf(sid, secrets.get(number));
            Checks.refused(401, 20003, () -> Account.fetcher(Main.ACCOUNT_SID).fetch(deleted));
        }
        Checks.ok("API keys delete");
    }
}
