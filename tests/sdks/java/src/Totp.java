import com.twilio.http.TwilioRestClient;
import com.twilio.rest.verify.v2.service.Entity;
import com.twilio.rest.verify.v2.service.entity.Challenge;
import com.twilio.rest.verify.v2.service.entity.Factor;
import com.twilio.rest.verify.v2.service.entity.NewFactor;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Sign-ins with codes of an authenticator app, which has the settings of RFC 6238. */
final class Totp {
    private static final String IDENTITY = "java-totp-0001";

    private final TwilioRestClient client;
    private final String service;

    Totp(TwilioRestClient client, String service) {
        this.client = client;
        this.service = service;
    }

    void all() throws GeneralSecurityException {
        NewFactor factor = NewFactor.creator(service, IDENTITY, "Ada: phone & co", NewFactor.FactorTypes.TOTP)
                .setConfigAlg(NewFactor.TotpAlgorithms.SHA1)
                .setConfigSkew(2)
                .create(client);
        Checks.isTrue(factor.getSid().startsWith("YF02"), factor.getSid());
        Checks.equal(factor.getStatus(), NewFactor.FactorStatuses.UNVERIFIED);
        Checks.equal(factor.getFactorType(), NewFactor.FactorTypes.TOTP);
        Checks.equal(factor.getConfig(), Map.of("alg", "sha1", "skew", 2, "code_length", 6, "time_step", 30));
        String secret = (String) Checks.member(factor.getBinding(), "secret");
        String uri = (String) Checks.member(factor.getBinding(), "uri");
        Checks.isTrue(uri.startsWith("otpauth://totp/") && uri.contains("?secret=" + secret + "&"), uri);
        Checks.refused(409, 60317, () -> NewFactor.creator(service, IDENTITY, "Copy", NewFactor.FactorTypes.TOTP)
                .setBindingSecret(secret)
                .create(client));
        Checks.ok("factors create, of TOTP");

        Checks.equal(verify(factor.getSid(), wrongCode(secret)), Factor.FactorStatuses.UNVERIFIED);
        Checks.equal(verify(factor.getSid(), code(secret, -1)), Factor.FactorStatuses.VERIFIED);
        Checks.ok("factors verify, of TOTP");

        String code = code(secret, 0);
        Challenge approved = challenge(factor.getSid(), code);
        Checks.equal(approved.getStatus(), Challenge.ChallengeStatuses.APPROVED);
        Checks.equal(approved.getFactorType(), Challenge.FactorTypes.TOTP);
        Checks.isTrue(approved.getDateResponded() != null, "no date of the response");
        Challenge pending = challenge(factor.getSid(), code);
        Checks.equal(pending.getStatus(), Challenge.ChallengeStatuses.PENDING);
        String next = code(secret, 1);
        Challenge answered = Challenge.updater(service, IDENTITY, pending.getSid())
                .setAuthPayload(next)
                .update(client);
        Checks.equal(answered.getStatus(), Challenge.ChallengeStatuses.APPROVED);
        Checks.refused(403, 60322, () -> Challenge.updater(service, IDENTITY, pending.getSid())
                .setAuthPayload(next)
                .update(client));
        Checks.ok("challenges with codes");
        Checks.equal(Entity.deleter(service, IDENTITY).delete(client), true);
    }

    private Factor.FactorStatuses verify(String factor, String code) {
        return Factor.updater(service, IDENTITY, factor).setAuthPayload(code).update(client).getStatus();
    }

    private Challenge challenge(String factor, String code) {
        return Challenge.creator(service, IDENTITY, factor).setAuthPayload(code).create(client);
    }

    /** Returns the code so many time steps after the current one. */
    private static String code(String secret, long steps) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA1");
        mac.init(new SecretKeySpec(base32(secret), "HmacSHA1"));
        long counter = System.currentTimeMillis() / 30_000 + steps;
        byte[] tag = mac.doFinal(ByteBuffer.allocate(8).putLong(counter).array());
        int number = ByteBuffer.wrap(tag).getInt(tag[tag.length - 1] & 15) & 0x7fffffff;
        return String.format("%06d", number % 1_000_000);
    }

    /** Returns a code that is wrong for some minutes. */
    private static String wrongCode(String secret) throws GeneralSecurityException {
        Set<String> near = new HashSet<>();
        for (long step = -10; step <= 10; step++) {
            near.add(code(secret, step));
        }
        int number = 0;
        while (near.contains(String.format("%06d", number))) {
            number++;
        }
        return String.format("%06d", number);
    }

    private static byte[] base32(String text) {
        ByteBuffer bytes = ByteBuffer.allocate(text.length() * 5 / 8);
        int bits = 0;
        int count = 0;
        for (char letter : text.toCharArray()) {
            bits = bits << 5 | "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter);
            count += 5;
            if (count >= 8) {
                count -= 8;
                bytes.put((byte) (bits >> count));
            }
        }
        return bytes.array();
    }
}
