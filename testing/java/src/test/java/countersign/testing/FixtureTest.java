package countersign.testing;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectMethod;

import java.io.IOException;
import java.net.Socket;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Isolated;
import org.junit.platform.testkit.engine.EngineTestKit;

/** Tests of the extension itself: start and end of the server, isolation, and the output of failed tests. */
@ExtendWith(CountersignExtension.class)
@Isolated("it names other binaries in a system property")
class FixtureTest {
    private static final String BINARY = "countersign.binary";

    /** Whether the server still listens. While it stops, it answers every request with 503. */
    private static boolean isUp(String url) {
        URI address = URI.create(url);
        try (Socket connection = new Socket(address.getHost(), address.getPort())) {
            return connection.isConnected();
        } catch (IOException error) {
            return false;
        }
    }

    @Test
    void startTakesLessThanASecond() {
        Duration fastest = Duration.ofHours(1);
        // Again if it is slow, because other tests may load the machine.
        for (int round = 0; round < 10 && fastest.toMillis() >= 1000; round++) {
            Server server = Server.start();
            fastest = server.startTime().compareTo(fastest) < 0 ? server.startTime() : fastest;
            server.close();
            assertFalse(isUp(server.url()));
        }
        assertTrue(fastest.toMillis() < 1000, fastest.toString());
    }

    /** Starts a server, prints its address, and waits to be killed. */
    static final class Holder {
        public static void main(String[] arguments) throws InterruptedException {
            System.out.println(Server.start().url());
            Thread.sleep(60_000);
        }
    }

    @Test
    void killedTestProcessLeavesNoServer() throws Exception {
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        Process holder = new ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), Holder.class.getName())
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        String url = holder.inputReader().readLine();
        assertTrue(isUp(url));
        holder.destroyForcibly().waitFor();
        long end = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (isUp(url)) {
            assertTrue(System.nanoTime() < end, "the server outlives the process that started it");
            Thread.sleep(20);
        }
    }

    @Test
    void settingsOfProductionInTheEnvironmentAreNotUsed() {
        assertEquals("postgres://production/countersign", System.getenv("COUNTERSIGN_DATABASE_URL"));
        Server.start().close();
    }

    @Test
    void missingBinaryIsNamed() {
        System.setProperty(BINARY, "/nowhere/countersign");
        try {
            CountersignException error = assertThrows(CountersignException.class, Server::start);
            assertTrue(error.getMessage().contains("COUNTERSIGN_BINARY is not a program: /nowhere/countersign"));
        } finally {
            System.clearProperty(BINARY);
        }
    }

    @Test
    void serverThatEndsAtOnceShowsItsLog(@TempDir Path folder) throws Exception {
        Path program = Files.writeString(folder.resolve("countersign"), "#!/bin/sh\necho out of order >&2\nexit 1\n");
        Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("rwxr-xr-x"));
        System.setProperty(BINARY, program.toString());
        try {
            CountersignException error = assertThrows(CountersignException.class, Server::start);
            assertTrue(error.getMessage().contains("ended before it was ready:\nout of order"), error.getMessage());
        } finally {
            System.clearProperty(BINARY);
        }
    }

    @Test
    void clockOfASharedServerCannotBeMoved(Countersign cs) {
        CountersignException error = assertThrows(CountersignException.class, cs::clock);
        assertTrue(error.getMessage().contains("mark the test with @OwnServer"));
    }

    @Test
    void eachAccountIsItsOwn(Countersign cs) {
        Countersign other = new Countersign(cs.server(), "other");
        assertNotEquals(cs.accountSid(), other.accountSid());
        assertNotEquals(cs.serviceSid(), other.serviceSid());
    }

    @Test
    @DisplayName("tab\t, line\r\n, \0\37\177\u0085\u009f")
    void nameOfATestCanHaveAnyCharacters(Countersign cs) {
        assertFalse(cs.accountSid().isEmpty());
    }

    @Test
    void parallelThreadsShareAnAccount(Countersign cs) {
        IntStream.range(0, 8).parallel().forEach(number -> {
            cs.device("user-000" + number, Behaviour.IGNORE);
            cs.report();
        });
        assertEquals(9, cs.report().split("log of the phone of ").length);
    }

    @Test
    @OwnServer
    void clockTravelsToAnInstantWithinTheSecond(Countersign cs) {
        Instant now = cs.clock().freeze();
        assertEquals(now, cs.clock().travelTo(now));
        Instant later = now.plusNanos(1000);
        assertEquals(later, cs.clock().travelTo(later));
    }

    @Nested
    @OwnServer
    class WithOwnServer {
        @Nested
        class Inside {
            @Test
            void nestedTestHasTheServerOfTheClassAround(Countersign cs) {
                assertFalse(cs.server().isShared());
            }
        }
    }

    /** Tests that fail on purpose; others run them. */
    @Tag("fails-on-purpose")
    @ExtendWith(CountersignExtension.class)
    static class Failing {
        @Test
        void shared(Countersign cs) {
            denyLogin(cs);
        }

        @Test
        @OwnServer
        void own(Countersign cs) {
            denyLogin(cs);
        }

        private static void denyLogin(Countersign cs) {
            Device phone = cs.device("user-0001", Behaviour.IGNORE);
            cs.post(
                    "/v2/Services/" + cs.serviceSid() + "/Entities/user-0001/Challenges",
                    Map.of("FactorSid", phone.factorSid(), "Details.Message", "Sign in?"));
            phone.deny();
            fail("the login was refused");
        }
    }

    @Test
    void failureShowsTheLogOfThePhoneAndTheCaptures() {
        for (String name : List.of("shared", "own")) {
            Throwable failure = EngineTestKit.engine("junit-jupiter")
                    .selectors(selectMethod(Failing.class, name, Countersign.class.getName()))
                    .execute()
                    .testEvents()
                    .failed()
                    .list()
                    .get(0)
                    .getRequiredPayload(org.junit.platform.engine.TestExecutionResult.class)
                    .getThrowable()
                    .orElseThrow();
            String report = failure.getSuppressed()[0].getMessage();
            assertTrue(report.contains("log of the phone of user-0001, factor YF"), report);
            assertTrue(report.contains(" deny 200"), report);
            assertTrue(report.matches("(?s).*last pushes\n[^\n]* fcm YC.*"), report);
            assertTrue(report.contains("last webhooks\n  none"), report);
        }
    }
}
