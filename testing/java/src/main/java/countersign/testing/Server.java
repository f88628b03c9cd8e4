package countersign.testing;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** A Countersign server in test mode: a process of this package, or a running container. */
public final class Server implements AutoCloseable {
    private static final String READY = "countersign listening on ";
    private static final int START_SECONDS = 10;
    private static final int STOP_SECONDS = 10;
    private static final Duration REQUEST_TIMEOUT = Duration.ofSeconds(30);
    private static final int SHOWN_LOG_LINES = 40;

    /** Ends the server when its own standard input closes, which also happens when the test process is killed. */
    private static final String SUPERVISOR = """
            trap '' INT HUP
            exec 3<&0
            "$@" </dev/null 3<&- &
            exec >&-
            cat <&3 >/dev/null
            kill $!
            wait $!
            """;

    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            // The server is on this machine or beside it.
            .proxy(HttpClient.Builder.NO_PROXY)
            .connectTimeout(REQUEST_TIMEOUT)
            .build();
    private final boolean isShared;
    private String url;
    private Duration startTime = Duration.ZERO;
    private Process process;
    private Path folder;

    private Server(String url, boolean isShared) {
        this.url = url;
        this.isShared = isShared;
    }

    /** Starts a server on a free port of 127.0.0.1 and waits until it is ready. */
    public static Server start() {
        return start(false);
    }

    static Server start(boolean isShared) {
        Server server = new Server("", isShared);
        Path binary = findBinary();
        long began = System.nanoTime();
        try {
            server.url = server.launch(binary);
        } catch (RuntimeException error) {
            server.close();
            throw error;
        }
        server.startTime = Duration.ofNanos(System.nanoTime() - began);
        return server;
    }

    /** Returns the running server at {@code url}, for example a container of the image {@code -test}. */
    public static Server attach(String url) {
        Server server = new Server(url.replaceAll("/$", ""), true);
        server.request("GET", "/", null, Duration.ZERO);
        return server;
    }

    /** Returns the server of COUNTERSIGN_URL, else a new one, that tests share. */
    static Server shared() {
        String url = System.getenv("COUNTERSIGN_URL");
        return url == null || url.isEmpty() ? start(true) : attach(url);
    }

    /** Returns the path of the binary: COUNTERSIGN_BINARY, else {@code countersign} on the PATH. */
    private static Path findBinary() {
        String property = System.getProperty("countersign.binary");
        String given = property == null ? System.getenv("COUNTERSIGN_BINARY") : property;
        Stream<Path> candidates = given != null && !given.isEmpty()
                ? Stream.of(Path.of(given))
                : Stream.of(System.getenv().getOrDefault("PATH", "").split(":"))
                        .map(entry -> Path.of(entry, "countersign"));
        return candidates
                .filter(path -> Files.isRegularFile(path) && Files.isExecutable(path))
                .findFirst()
                .map(Path::toAbsolutePath)
                .orElseThrow(() -> new CountersignException(
                        (given == null
                                        ? "no program countersign on the PATH"
                                        : "COUNTERSIGN_BINARY is not a program: " + given)
                                + "; install it, or name its path in COUNTERSIGN_BINARY"));
    }

    private String launch(Path binary) {
        try {
            folder = Files.createTempDirectory("countersign-testing-");
            List<String> command = new ArrayList<>(List.of("sh", "-c", SUPERVISOR, "countersign", binary.toString()));
            command.addAll(List.of("serve", "--test-mode", "local", "--listen", "127.0.0.1:0"));
            ProcessBuilder builder = new ProcessBuilder(command)
                    // A folder without `data`, because the default data folder is relative.
                    .directory(folder.toFile())
                    .redirectError(logFile().toFile());
            // The server refuses test mode with settings of production, which a developer's shell may hold.
            builder.environment().keySet().removeIf(name -> name.startsWith("COUNTERSIGN"));
            process = builder.start();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        CompletableFuture<String> address = new CompletableFuture<>();
        Thread reader = new Thread(() -> readOutput(process, address), "countersign-output");
        reader.setDaemon(true);
        reader.start();
        try {
            return address.get(START_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException error) {
            throw new CountersignException("the server was not ready after " + START_SECONDS + " s:\n" + log());
        } catch (ExecutionException error) {
            throw new CountersignException("the server ended before it was ready:\n" + log());
        } catch (InterruptedException error) {
            throw interrupted(error);
        }
    }

    private static void readOutput(Process process, CompletableFuture<String> address) {
        try (BufferedReader lines = process.inputReader()) {
            String line = lines.readLine();
            while (line != null) {
                if (line.startsWith(READY)) {
                    address.complete(line.substring(READY.length()).trim());
                }
                line = lines.readLine();
            }
        } catch (IOException error) {
            // The pipe was closed, which is an end too.
        }
        address.completeExceptionally(new IOException("end of output"));
    }

    /** Sends SIGTERM and waits for the end of the process. Does nothing for a server that was not started here. */
    @Override
    public void close() {
        Process ended = process;
        process = null;
        try {
            if (ended != null) {
                ended.getOutputStream().close();
                if (!ended.waitFor(STOP_SECONDS, TimeUnit.SECONDS)) {
                    ended.descendants().forEach(ProcessHandle::destroyForcibly);
                    ended.destroyForcibly();
                    throw new CountersignException("the server did not stop within " + STOP_SECONDS + " s:\n" + log());
                }
            }
            if (folder != null) {
                Files.deleteIfExists(logFile());
                Files.deleteIfExists(folder);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (InterruptedException error) {
            throw interrupted(error);
        }
    }

    private Path logFile() {
        return folder.resolve("server.log");
    }

    /** Returns the end of the server's log, or an empty text if the server is not a process of this package. */
    public String log() {
        if (folder == null) {
            return "";
        }
        try (Stream<String> lines = Files.lines(logFile())) {
            List<String> all = lines.toList();
            return String.join("\n", all.subList(Math.max(0, all.size() - SHOWN_LOG_LINES), all.size()));
        } catch (IOException | UncheckedIOException error) {
            return "";
        }
    }

    /** Returns the address of the server. */
    public String url() {
        return url;
    }

    /** Returns whether other tests use the server too. */
    public boolean isShared() {
        return isShared;
    }

    /** Returns the time that the server took to become ready. */
    public Duration startTime() {
        return startTime;
    }

    /**
     * Sends a request to {@code /_countersign/v1} and returns the JSON of the response, or null without a body.
     *
     * <p>{@code wait} is the time that the server may take in addition to the usual timeout.
     */
    public Object request(String method, String path, Object body, Duration wait) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + "/_countersign/v1" + path));
        if (!method.equals("GET")) {
            request.header("Content-Type", "application/json");
        }
        return send(request.method(method, publisher(body == null ? "" : Json.write(body))), wait);
    }

    /** Sends a POST request of the public API and returns its JSON. */
    Object post(String user, String password, String path, Map<String, String> parameters) {
        String login = Base64.getEncoder().encodeToString((user + ":" + password).getBytes(StandardCharsets.UTF_8));
        String form = parameters.entrySet().stream()
                .map(parameter -> encode(parameter.getKey()) + "=" + encode(parameter.getValue()))
                .collect(Collectors.joining("&"));
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + path))
                .header("Authorization", "Basic " + login)
                .header("Content-Type", "application/x-www-form-urlencoded");
        return send(request.POST(publisher(form)), Duration.ZERO);
    }

    private static HttpRequest.BodyPublisher publisher(String text) {
        return text.isEmpty() ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(text);
    }

    static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }

    private Object send(HttpRequest.Builder builder, Duration wait) {
        HttpRequest request = builder.timeout(wait.plus(REQUEST_TIMEOUT)).build();
        HttpResponse<String> response;
        try {
            response = http.send(request, HttpResponse.BodyHandlers.ofString());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (InterruptedException error) {
            throw interrupted(error);
        }
        String text = response.body();
        if (response.statusCode() < 300) {
            return text.isEmpty() ? null : Json.parse(text);
        }
        String path = request.uri().getPath();
        try {
            Values error = new Values(Json.parse(text));
            long code = error.number("code");
            throw new RequestException(request.method(), path, response.statusCode(), code, error.text("message"));
        } catch (RequestException error) {
            throw error;
        } catch (RuntimeException error) {
            throw new RequestException(request.method(), path, response.statusCode(), 0, text);
        }
    }

    static UncheckedIOException interrupted(InterruptedException error) {
        Thread.currentThread().interrupt();
        return new UncheckedIOException((IOException) new InterruptedIOException().initCause(error));
    }

    /** Returns the server's clock. */
    public Clock clock() {
        requireOwn("the clock");
        return new Clock(this);
    }

    /**
     * Replaces the failures that the server makes on purpose. The argument is the body of {@code PUT /chaos}; an empty
     * map ends all failures.
     */
    public void setChaos(Map<String, Object> failures) {
        requireOwn("chaos");
        request("PUT", "/chaos", failures, Duration.ZERO);
    }

    /** Runs one round of housekeeping now, and returns the number of removed objects by kind. */
    public Map<String, Object> housekeeping() {
        return new Values(request("POST", "/housekeeping", Map.of(), Duration.ZERO)).members();
    }

    /** Removes all devices and captures of all accounts, and sets the clock back to the real time. */
    public void reset() {
        requireOwn("reset");
        request("POST", "/reset", Map.of(), Duration.ZERO);
    }

    private void requireOwn(String what) {
        if (isShared) {
            throw new CountersignException(
                    what + " affects every test on this server; mark the test with @OwnServer, so that it gets its own");
        }
    }
}
