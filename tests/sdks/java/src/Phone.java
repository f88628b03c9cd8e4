import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;

/** A P-256 key, and the signatures of a phone with it. */
final class Phone {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final KeyPair keys;

    Phone() {
        try {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
            generator.initialize(new ECGenParameterSpec("secp256r1"));
            keys = generator.generateKeyPair();
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
    }

    String publicKey() {
        return Base64.getEncoder().encodeToString(keys.getPublic().getEncoded());
    }

    /** Returns the DER signature that verifies a factor. */
    String proof(String factor) {
        return Base64.getEncoder().encodeToString(sign("SHA256withECDSA", factor));
    }

    /** Returns the signed JWT that answers a challenge: the fields that the server named, with the answer. */
    String answer(Map<String, Object> body, String fields, String status) {
        Map<String, Object> claims = new LinkedHashMap<>();
        for (String name : fields.split(",")) {
            Checks.isTrue(body.containsKey(name), "the challenge has no " + name);
            claims.put(name, body.get(name));
        }
        claims.put("status", status);
        String signed = part(Map.of("typ", "JWT", "alg", "ES256")) + "." + part(claims);
        return signed + "." + urlSafe(sign("SHA256withECDSAinP1363Format", signed));
    }

    private byte[] sign(String algorithm, String text) {
        try {
            Signature signature = Signature.getInstance(algorithm);
            signature.initSign(keys.getPrivate());
            signature.update(text.getBytes(StandardCharsets.UTF_8));
            return signature.sign();
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
    }

    private static String part(Map<String, Object> content) {
        try {
            return urlSafe(JSON.writeValueAsBytes(content));
        } catch (JsonProcessingException error) {
            throw new IllegalStateException(error);
        }
    }

    private static String urlSafe(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }
}
