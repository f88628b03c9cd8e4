import java.io.FileInputStream;
import java.io.IOException;
import java.net.Proxy;
import java.net.URL;
import java.net.URLConnection;
import java.net.URLStreamHandler;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Redirects requests of the SDK's own network adapter from Twilio to our server.
 *
 * The SDK has no setting for the address, so Java's URLs are made to open their connection elsewhere, as a
 * changed DNS entry would. Everything above is the SDK's own code, everything below is Java's HTTPS.
 */
final class Redirect extends URLStreamHandler {
    private final URL server;

    private Redirect(URL server) {
        this.server = server;
    }

    /** Installs the handler, which is possible once in a process. */
    static void install(String httpsUrl, String caFile) throws Exception {
        // A URL keeps the handler with which it was created, and so do URLs relative to it.
        var server = new URL(httpsUrl);
        trust(caFile);
        URL.setURLStreamHandlerFactory(protocol -> protocol.equals("https") ? new Redirect(server) : null);
    }

    private static void trust(String caFile) throws Exception {
        var trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null);
        try (var file = new FileInputStream(caFile)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        var context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        SSLContext.setDefault(context);
        HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
    }

    private URL redirected(URL url) throws IOException {
        if (!url.getHost().equals("verify.twilio.com")) {
            throw new IOException("The SDK was not expected to call " + url);
        }
        return new URL(server, url.getFile());
    }

    @Override
    protected URLConnection openConnection(URL url) throws IOException {
        return redirected(url).openConnection();
    }

    @Override
    protected URLConnection openConnection(URL url, Proxy proxy) throws IOException {
        return redirected(url).openConnection(proxy);
    }

    @Override
    protected int getDefaultPort() {
        return 443;
    }
}
