import android.security.keystore.KeyGenParameterSpec;
import java.io.InputStream;
import java.io.OutputStream;
import java.security.InvalidAlgorithmParameterException;
import java.security.Key;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyPairGeneratorSpi;
import java.security.KeyStore.Entry;
import java.security.KeyStore.PrivateKeyEntry;
import java.security.KeyStore.ProtectionParameter;
import java.security.KeyStore.SecretKeyEntry;
import java.security.KeyStoreSpi;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.cert.Certificate;
import java.security.spec.AlgorithmParameterSpec;
import java.security.spec.ECGenParameterSpec;
import java.util.Collections;
import java.util.Date;
import java.util.Enumeration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.crypto.KeyGenerator;
import javax.crypto.KeyGeneratorSpi;
import javax.crypto.SecretKey;

/**
 * The key store of an Android phone, as far as the SDK uses it: it creates keys under an alias and returns them.
 *
 * On a phone the keys stay in hardware. Here they are ordinary keys in memory, so that Java's own Signature and
 * Cipher can use them without changes.
 */
public final class AndroidKeyStore extends Provider {
    private static final Map<String, Key> KEYS = new ConcurrentHashMap<>();
    private static final Map<String, PublicKey> PUBLIC_KEYS = new ConcurrentHashMap<>();

    public AndroidKeyStore() {
        super("AndroidKeyStore", "1", "Keys in memory, for tests");
        put("KeyStore.AndroidKeyStore", Store.class.getName());
        put("KeyPairGenerator.EC", EcKeys.class.getName());
        put("KeyGenerator.AES", AesKeys.class.getName());
    }

    private static KeyGenParameterSpec spec(AlgorithmParameterSpec given) throws InvalidAlgorithmParameterException {
        if (given instanceof KeyGenParameterSpec spec) {
            return spec;
        }
        throw new InvalidAlgorithmParameterException("A KeyGenParameterSpec is needed");
    }

    public static final class EcKeys extends KeyPairGeneratorSpi {
        private KeyGenParameterSpec spec;

        @Override
        public void initialize(AlgorithmParameterSpec given, SecureRandom random)
                throws InvalidAlgorithmParameterException {
            spec = spec(given);
        }

        @Override
        public void initialize(int size, SecureRandom random) {
            throw new UnsupportedOperationException("A KeyGenParameterSpec is needed");
        }

        @Override
        public KeyPair generateKeyPair() {
            try {
                var curve = spec.getAlgorithmParameterSpec();
                var generator = KeyPairGenerator.getInstance("EC");
                generator.initialize(curve != null ? curve : new ECGenParameterSpec("secp256r1"));
                var pair = generator.generateKeyPair();
                KEYS.put(spec.getKeystoreAlias(), pair.getPrivate());
                PUBLIC_KEYS.put(spec.getKeystoreAlias(), pair.getPublic());
                return pair;
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }
    }

    public static final class AesKeys extends KeyGeneratorSpi {
        private KeyGenParameterSpec spec;

        @Override
        protected void engineInit(AlgorithmParameterSpec given, SecureRandom random)
                throws InvalidAlgorithmParameterException {
            spec = spec(given);
        }

        @Override
        protected void engineInit(SecureRandom random) {
            throw new UnsupportedOperationException("A KeyGenParameterSpec is needed");
        }

        @Override
        protected void engineInit(int size, SecureRandom random) {
            engineInit(random);
        }

        @Override
        protected SecretKey engineGenerateKey() {
            try {
                var generator = KeyGenerator.getInstance("AES");
                generator.init(spec.getKeySize() > 0 ? spec.getKeySize() : 256);
                var key = generator.generateKey();
                KEYS.put(spec.getKeystoreAlias(), key);
                return key;
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }
    }

    public static final class Store extends KeyStoreSpi {
        @Override
        public Key engineGetKey(String alias, char[] password) {
            return KEYS.get(alias);
        }

        /** Java's method requires a password, which this store does not have. */
        @Override
        public Entry engineGetEntry(String alias, ProtectionParameter protection) {
            var key = KEYS.get(alias);
            if (key instanceof PrivateKey secret) {
                return new PrivateKeyEntry(secret, engineGetCertificateChain(alias));
            }
            return key instanceof SecretKey secret ? new SecretKeyEntry(secret) : null;
        }

        @Override
        public Certificate engineGetCertificate(String alias) {
            var key = PUBLIC_KEYS.get(alias);
            return key == null ? null : new Bare(key);
        }

        @Override
        public Certificate[] engineGetCertificateChain(String alias) {
            var certificate = engineGetCertificate(alias);
            return certificate == null ? null : new Certificate[] {certificate};
        }

        @Override
        public void engineDeleteEntry(String alias) {
            KEYS.remove(alias);
            PUBLIC_KEYS.remove(alias);
        }

        @Override
        public Enumeration<String> engineAliases() {
            return Collections.enumeration(KEYS.keySet());
        }

        @Override
        public boolean engineContainsAlias(String alias) {
            return KEYS.containsKey(alias);
        }

        @Override
        public int engineSize() {
            return KEYS.size();
        }

        @Override
        public boolean engineIsKeyEntry(String alias) {
            return KEYS.containsKey(alias);
        }

        @Override
        public boolean engineIsCertificateEntry(String alias) {
            return false;
        }

        @Override
        public Date engineGetCreationDate(String alias) {
            return null;
        }

        @Override
        public String engineGetCertificateAlias(Certificate certificate) {
            return null;
        }

        @Override
        public void engineSetKeyEntry(String alias, Key key, char[] password, Certificate[] chain) {
            KEYS.put(alias, key);
            if (key instanceof PrivateKey) {
                PUBLIC_KEYS.put(alias, chain[0].getPublicKey());
            }
        }

        @Override
        public void engineSetKeyEntry(String alias, byte[] key, Certificate[] chain) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void engineSetCertificateEntry(String alias, Certificate certificate) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void engineLoad(InputStream stream, char[] password) {}

        @Override
        public void engineStore(OutputStream stream, char[] password) {
            throw new UnsupportedOperationException();
        }
    }

    /** A certificate that only has a public key, because the SDK reads nothing else of it. */
    private static final class Bare extends Certificate {
        private final PublicKey key;

        Bare(PublicKey key) {
            super("bare");
            this.key = key;
        }

        @Override
        public PublicKey getPublicKey() {
            return key;
        }

        @Override
        public byte[] getEncoded() {
            return key.getEncoded();
        }

        @Override
        public void verify(PublicKey key) {}

        @Override
        public void verify(PublicKey key, String provider) {}

        @Override
        public String toString() {
            return "certificate of " + key;
        }
    }
}
