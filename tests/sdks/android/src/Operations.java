import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;
import static org.robolectric.Shadows.shadowOf;

import android.content.Context;
import android.os.Looper;
import com.twilio.verify.TwilioVerify;
import com.twilio.verify.TwilioVerifyException;
import com.twilio.verify.models.Challenge;
import com.twilio.verify.models.ChallengeList;
import com.twilio.verify.models.ChallengeListOrder;
import com.twilio.verify.models.ChallengeListPayload;
import com.twilio.verify.models.ChallengeStatus;
import com.twilio.verify.models.Factor;
import com.twilio.verify.models.FactorStatus;
import com.twilio.verify.models.PushFactorPayload;
import com.twilio.verify.models.UpdatePushChallengePayload;
import com.twilio.verify.models.UpdatePushFactorPayload;
import com.twilio.verify.models.VerifyPushFactorPayload;
import com.twilio.verify.networking.NetworkException;
import java.security.Security;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import kotlin.Unit;
import kotlin.jvm.functions.Function0;
import kotlin.jvm.functions.Function1;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.annotation.Config;

/**
 * Every operation of an app with the SDK: once with the app's network provider over plain HTTP, once with the
 * SDK's own adapter over HTTPS.
 */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34, manifest = Config.NONE)
public final class Operations {
    private static final long SECONDS = 30;
    private static boolean redirected;

    private Context context;
    /** The end of each line, which distinguishes the two network providers. */
    private String way;

    @Before
    public void prepare() throws Exception {
        if (Security.getProvider("AndroidKeyStore") == null) {
            Security.addProvider(new AndroidKeyStore());
        }
        context = RuntimeEnvironment.getApplication();
        // The SDK sends the version of the app to the server.
        var app = shadowOf(context.getPackageManager()).getInternalMutablePackageInfo(context.getPackageName());
        app.versionName = "1.0";
        app.applicationInfo.nonLocalizedLabel = "Owl Bänk";
    }

    @Test
    public void providerOfTheApp() throws Exception {
        way = "own NetworkProvider, HTTP";
        var network = new SelfHosted(System.getenv("BASE_URL"));
        var verify = new TwilioVerify.Builder(context).networkProvider(network).build();
        var backend = new Backend("Android by HTTP");
        var factor = factors(verify, backend, "android-user-http");
        challenges(verify, backend, factor);
        wrongClock(verify, verify, network, backend, factor);
        assertEquals(List.of("GET 401", "GET 200"), network.log.subList(network.log.size() - 2, network.log.size()));
        errors(verify, backend, factor);
        mapperError(verify, network, backend, factor);
        deletion(verify, backend, factor);
    }

    @Test
    public void adapterOfTheSdk() throws Exception {
        way = "SDK's adapter, HTTPS";
        redirect();
        var verify = new TwilioVerify.Builder(context).build();
        var backend = new Backend("Android by HTTPS");
        var factor = factors(verify, backend, "android-user-https");
        challenges(verify, backend, factor);
        // Both share the app's storage, including the clock correction, which only our provider can falsify.
        var network = new SelfHosted(System.getenv("BASE_URL"));
        var spoiler = new TwilioVerify.Builder(context).networkProvider(network).build();
        wrongClock(verify, spoiler, network, backend, factor);
        errors(verify, backend, factor);
        deletion(verify, backend, factor);
    }

    private static void redirect() throws Exception {
        if (!redirected) {
            Redirect.install(System.getenv("HTTPS_URL"), System.getenv("CA_FILE"));
            redirected = true;
        }
    }

    private void ok(String operation) {
        System.out.println("ok " + operation + " (" + way + ")");
    }

    private Factor factors(TwilioVerify verify, Backend backend, String identity) throws Exception {
        var factor = create(verify, backend, identity, "My phone & co/ü", "t".repeat(64), Map.of("os", "Android"));
        assertTrue(factor.getSid(), factor.getSid().startsWith("YF"));
        assertEquals("My phone & co/ü", factor.getFriendlyName());
        assertEquals(FactorStatus.Unverified, factor.getStatus());
        assertEquals(System.getenv("ACCOUNT_SID"), factor.getAccountSid());
        assertEquals(backend.service(), factor.getServiceSid());
        assertEquals(identity, factor.getIdentity());
        assertEquals(Map.of("os", "Android"), factor.getMetadata());
        var age = Duration.between(factor.getCreatedAt().toInstant(), Instant.now()).abs();
        assertTrue("created " + age + " from now", age.compareTo(Duration.ofMinutes(5)) < 0);
        var seen = backend.factor(identity, factor.getSid());
        assertEquals("fcm", seen.getJSONObject("config").getString("notification_platform"));
        assertEquals("t".repeat(64), seen.getJSONObject("config").getString("notification_token"));
        ok("create a factor");

        // Without a push token the SDK sends the platform "none", which only the server shows.
        var silent = create(verify, backend, identity, "Silent", null, null);
        var config = backend.factor(identity, silent.getSid()).getJSONObject("config");
        assertEquals("none", config.getString("notification_platform"));
        assertTrue(silent.getMetadata() == null || silent.getMetadata().isEmpty());
        ok("create a factor without a push token");

        var verified = Operations.<Factor>value((success, error) ->
                verify.verifyFactor(new VerifyPushFactorPayload(factor.getSid()), success, error));
        assertEquals(FactorStatus.Verified, verified.getStatus());
        assertEquals("verified", backend.factor(identity, factor.getSid()).getString("status"));
        ok("verify a factor");

        var updated = Operations.<Factor>value((success, error) ->
                verify.updateFactor(new UpdatePushFactorPayload(factor.getSid(), "u".repeat(64)), success, error));
        assertEquals(factor.getSid(), updated.getSid());
        assertEquals("My phone & co/ü", updated.getFriendlyName());
        seen = backend.factor(identity, factor.getSid()).getJSONObject("config");
        assertEquals("u".repeat(64), seen.getString("notification_token"));
        ok("update a factor");

        deleted(verify, silent.getSid());
        assertEquals(20404, backend.factor(identity, silent.getSid()).getInt("code"));
        ok("delete a factor");

        var stored = stored(verify);
        assertEquals(1, stored.size());
        assertEquals(factor.getSid(), stored.get(0).getSid());
        assertEquals(FactorStatus.Verified, stored.get(0).getStatus());
        ok("read back the stored factors");
        return verified;
    }

    private void challenges(TwilioVerify verify, Backend backend, Factor factor) throws Exception {
        var identity = factor.getIdentity();
        var sids = new ArrayList<String>();
        sids.add(backend.challenge(identity, factor.getSid(),
                "Details.Message", "Sign in to https://bank.example/?",
                "Details.Fields", "{\"label\":\"IP\",\"value\":\"203.0.113.9\"}",
                "Details.Fields", "{\"label\":\"Owl\",\"value\":\"ü & 🦉\"}",
                "HiddenDetails", "{\"txn\":\"a/b\"}"));
        for (int i = 1; i < 5; i++) {
            sids.add(backend.challenge(identity, factor.getSid(), "Details.Message", "Number " + i));
        }

        var first = get(verify, factor, sids.get(0));
        assertEquals(sids.get(0), first.getSid());
        assertEquals(factor.getSid(), first.getFactorSid());
        assertEquals(ChallengeStatus.Pending, first.getStatus());
        assertEquals("Sign in to https://bank.example/?", first.getChallengeDetails().getMessage());
        assertEquals(2, first.getChallengeDetails().getFields().size());
        assertEquals("Owl", first.getChallengeDetails().getFields().get(1).getLabel());
        assertEquals("ü & 🦉", first.getChallengeDetails().getFields().get(1).getValue());
        assertTrue(String.valueOf(first.getHiddenDetails()).contains("a/b"));
        assertTrue(first.getExpirationDate().after(first.getCreatedAt()));
        ok("get a challenge");

        var all = list(verify, factor, 20, null, ChallengeListOrder.Asc, null);
        assertEquals(sids, sids(all));
        assertNull(all.getMetadata().getNextPageToken());
        assertEquals(20, all.getMetadata().getPageSize());
        ok("list challenges");

        // Three pages forward, then one back.
        var page = list(verify, factor, 2, null, ChallengeListOrder.Asc, null);
        assertEquals(sids.subList(0, 2), sids(page));
        assertEquals(0, page.getMetadata().getPage());
        assertNull(page.getMetadata().getPreviousPageToken());
        page = list(verify, factor, 2, null, ChallengeListOrder.Asc, page.getMetadata().getNextPageToken());
        assertEquals(sids.subList(2, 4), sids(page));
        var back = page.getMetadata().getPreviousPageToken();
        page = list(verify, factor, 2, null, ChallengeListOrder.Asc, page.getMetadata().getNextPageToken());
        assertEquals(sids.subList(4, 5), sids(page));
        assertNull(page.getMetadata().getNextPageToken());
        assertNotNull(back);
        page = list(verify, factor, 2, null, ChallengeListOrder.Asc, back);
        assertEquals(sids.subList(0, 2), sids(page));
        ok("page through challenges");

        var newestFirst = new ArrayList<>(sids);
        Collections.reverse(newestFirst);
        assertEquals(newestFirst, sids(list(verify, factor, 20, null, ChallengeListOrder.Desc, null)));
        ok("list challenges, newest first");

        answer(verify, factor, sids.get(0), ChallengeStatus.Approved);
        assertEquals("approved", backend.challenge(identity, sids.get(0)).getString("status"));
        assertEquals(ChallengeStatus.Approved, get(verify, factor, sids.get(0)).getStatus());
        ok("approve a challenge");

        answer(verify, factor, sids.get(1), ChallengeStatus.Denied);
        assertEquals("denied", backend.challenge(identity, sids.get(1)).getString("status"));
        ok("deny a challenge");

        assertEquals(sids.subList(0, 1),
                sids(list(verify, factor, 20, ChallengeStatus.Approved, ChallengeListOrder.Asc, null)));
        assertEquals(sids.subList(1, 2),
                sids(list(verify, factor, 20, ChallengeStatus.Denied, ChallengeListOrder.Asc, null)));
        assertEquals(sids.subList(2, 5),
                sids(list(verify, factor, 20, ChallengeStatus.Pending, ChallengeListOrder.Asc, null)));
        assertEquals(List.of(),
                sids(list(verify, factor, 20, ChallengeStatus.Expired, ChallengeListOrder.Asc, null)));
        ok("list challenges by status");

        // A challenge that expires soon.
        var expires = Instant.now().plusSeconds(10).truncatedTo(ChronoUnit.SECONDS);
        var brief = backend.challenge(identity, factor.getSid(),
                "Details.Message", "Quick", "ExpirationDate", expires.toString());
        assertEquals(expires, get(verify, factor, brief).getExpirationDate().toInstant());
        Thread.sleep(Math.max(0, Duration.between(Instant.now(), expires).toMillis()) + 1000);
        assertEquals(ChallengeStatus.Expired, get(verify, factor, brief).getStatus());
        assertEquals(List.of(brief),
                sids(list(verify, factor, 20, ChallengeStatus.Expired, ChallengeListOrder.Asc, null)));
        var late = refused("60404", (success, error) -> verify.updateChallenge(
                new UpdatePushChallengePayload(factor.getSid(), brief, ChallengeStatus.Approved), nothing(success), error));
        assertEquals("ExpiredChallengeException", late.getCause().getClass().getSimpleName());
        ok("see a challenge expire");
    }

    /**
     * The phone's clock is 20 minutes wrong, and the next call corrects it.
     *
     * The SDK corrects its clock by the Date header of a 401. A forged one sets it wrong, which nothing else can
     * without changing the SDK, and the server's own one must correct it.
     */
    private void wrongClock(
            TwilioVerify verify, TwilioVerify spoiler, SelfHosted network, Backend backend, Factor factor)
            throws Exception {
        for (int minutes : new int[] {20, -20}) {
            var sid = backend.challenge(factor.getIdentity(), factor.getSid(), "Details.Message", "What time is it?");
            var wrong = DateTimeFormatter.RFC_1123_DATE_TIME.format(
                    Instant.now().plus(minutes, ChronoUnit.MINUTES).atOffset(ZoneOffset.UTC));
            network.refuseNext(401, Map.of("Date", List.of(wrong)));
            // The SDK retries once, now with the wrong time, and then gives up.
            var spoiled = refused("60401", (success, error) ->
                    spoiler.getChallenge(sid, factor.getSid(), success, error));
            assertEquals(401, network(spoiled).getFailureResponse().getStatusCode());
            assertEquals("GET 401", network.log.get(network.log.size() - 1));

            assertEquals(sid, get(verify, factor, sid).getSid());
        }
        ok("repair a clock that is 20 minutes wrong");
    }

    private void errors(TwilioVerify verify, Backend backend, Factor factor) throws Exception {
        var unknown = "YC" + "0".repeat(32);
        var missing = refused("60401", (success, error) ->
                verify.getChallenge(unknown, factor.getSid(), success, error));
        var failure = network(missing).getFailureResponse();
        assertEquals(404, failure.getStatusCode());
        assertEquals("20404", failure.getApiError().getCode());
        assertEquals("https://www.twilio.com/docs/errors/20404", failure.getApiError().getMoreInfo());
        assertFalse(failure.getApiError().getMessage().isEmpty());

        var forged = refused("60401", (success, error) -> verify.createFactor(
                new PushFactorPayload("Forged", backend.service(), factor.getIdentity(), null, "a.b.c", null),
                success, error));
        failure = network(forged).getFailureResponse();
        assertEquals(401, failure.getStatusCode());
        assertEquals("20003", failure.getApiError().getCode());
        ok("60401, network, with the server's own code");

        var unreachable = new TwilioVerify.Builder(context)
                .networkProvider(new SelfHosted("http://127.0.0.1:1"))
                .build();
        var lost = refused("60401", (success, error) ->
                unreachable.getChallenge(unknown, factor.getSid(), success, error));
        assertNull(network(lost).getFailureResponse());
        ok("60401, network, without a server");

        refused("60403", (success, error) ->
                verify.getChallenge(unknown, "YF" + "0".repeat(32), success, error));
        ok("60403, storage, of a factor that is not on the phone");

        var sid = backend.challenge(factor.getIdentity(), factor.getSid(), "Details.Message", "Twice?");
        answer(verify, factor, sid, ChallengeStatus.Approved);
        var again = refused("60404", (success, error) -> verify.updateChallenge(
                new UpdatePushChallengePayload(factor.getSid(), sid, ChallengeStatus.Denied), nothing(success), error));
        assertEquals("AlreadyUpdatedChallengeException", again.getCause().getClass().getSimpleName());
        ok("60404, input, of a second answer");
    }

    private void mapperError(TwilioVerify verify, SelfHosted network, Backend backend, Factor factor)
            throws Exception {
        var sid = backend.challenge(factor.getIdentity(), factor.getSid(), "Details.Message", "Unreadable?");
        network.answerNext("{\"sid\":\"" + sid + "\"}");
        refused("60402", (success, error) -> verify.getChallenge(sid, factor.getSid(), success, error));
        ok("60402, mapping, of an answer that is no challenge");
    }

    /** A factor that the backend has deleted: the phone gets 401 twice, and treats that as deleted. */
    private void deletion(TwilioVerify verify, Backend backend, Factor factor) throws Exception {
        backend.deleteFactor(factor.getIdentity(), factor.getSid());
        var gone = refused("60401", (success, error) -> verify.getAllChallenges(
                new ChallengeListPayload(factor.getSid(), 20, null, ChallengeListOrder.Asc, null), success, error));
        assertEquals(401, network(gone).getFailureResponse().getStatusCode());
        deleted(verify, factor.getSid());
        assertEquals(List.of(), stored(verify));
        ok("delete a factor that the backend has deleted before");
    }

    private static Factor create(
            TwilioVerify verify, Backend backend, String identity, String name, String push, Map<String, String> metadata)
            throws Exception {
        var token = backend.accessToken(identity);
        return value((success, error) -> verify.createFactor(
                new PushFactorPayload(name, backend.service(), identity, push, token, metadata), success, error));
    }

    /** The Java type of Kotlin's list is not fixed, hence the raw type. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private static List<Factor> stored(TwilioVerify verify) throws Exception {
        return value((success, error) -> verify.getAllFactors((Function1) success, error));
    }

    private static void deleted(TwilioVerify verify, String sid) throws Exception {
        value((success, error) -> verify.deleteFactor(sid, nothing(success), error));
    }

    private static Challenge get(TwilioVerify verify, Factor factor, String sid) throws Exception {
        return value((success, error) -> verify.getChallenge(sid, factor.getSid(), success, error));
    }

    private static void answer(TwilioVerify verify, Factor factor, String sid, ChallengeStatus status)
            throws Exception {
        value((success, error) -> verify.updateChallenge(
                new UpdatePushChallengePayload(factor.getSid(), sid, status), nothing(success), error));
    }

    private static ChallengeList list(
            TwilioVerify verify, Factor factor, int size, ChallengeStatus status, ChallengeListOrder order, String page)
            throws Exception {
        return value((success, error) -> verify.getAllChallenges(
                new ChallengeListPayload(factor.getSid(), size, status, order, page), success, error));
    }

    private static List<String> sids(ChallengeList list) {
        return list.getChallenges().stream().map(Challenge::getSid).toList();
    }

    private static NetworkException network(TwilioVerifyException exception) {
        return (NetworkException) exception.getCause();
    }

    /** A call of the SDK with its callback. */
    private interface Call<T> {
        void start(Function1<T, Unit> success, Function1<TwilioVerifyException, Unit> error);
    }

    /** The callback of calls without a result. */
    private static Function0<Unit> nothing(Function1<Object, Unit> success) {
        return () -> success.invoke(Unit.INSTANCE);
    }

    private static <T> T value(Call<T> call) throws Exception {
        var result = new CompletableFuture<T>();
        call.start(
                value -> {
                    result.complete(value);
                    return Unit.INSTANCE;
                },
                error -> {
                    result.completeExceptionally(error);
                    return Unit.INSTANCE;
                });
        return wait(result);
    }

    private static TwilioVerifyException refused(String code, Call<Object> call) throws Exception {
        var result = new CompletableFuture<TwilioVerifyException>();
        call.start(
                value -> {
                    result.completeExceptionally(new AssertionError("not refused: " + value));
                    return Unit.INSTANCE;
                },
                error -> {
                    result.complete(error);
                    return Unit.INSTANCE;
                });
        var exception = wait(result);
        // The SDK's exception has the code only in its text.
        if (!exception.getMessage().contains(code)) {
            throw new AssertionError("not " + code, exception);
        }
        return exception;
    }

    /** The SDK calls back on the main thread, which is this one, so it must keep processing messages. */
    private static <T> T wait(CompletableFuture<T> result) throws Exception {
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS); ; ) {
            shadowOf(Looper.getMainLooper()).idle();
            try {
                return result.get(10, TimeUnit.MILLISECONDS);
            } catch (TimeoutException exception) {
                if (System.nanoTime() > end) {
                    fail("the SDK did not call back within " + SECONDS + " s");
                }
            }
        }
    }
}
