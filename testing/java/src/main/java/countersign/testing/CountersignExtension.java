package countersign.testing;

import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;
import org.junit.jupiter.api.extension.ExtensionContext.Store.CloseableResource;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;
import org.junit.platform.commons.support.AnnotationSupport;

/**
 * Gives each test that has a parameter of type {@link Countersign} an account of its own.
 *
 * <p>All tests of the process share one server, except those with {@link OwnServer}. If a test fails, its exception
 * ends with the logs of the phones and the last captures.
 */
public final class CountersignExtension implements ParameterResolver, AfterEachCallback {
    private static final Namespace NAMESPACE = Namespace.create(CountersignExtension.class);

    @Override
    public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
        // Not in constructors, which have no test.
        return parameter.getParameter().getType() == Countersign.class
                && context.getTestMethod().isPresent();
    }

    @Override
    public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
        return context.getStore(NAMESPACE)
                .getOrComputeIfAbsent(Countersign.class, key -> createAccount(context), Countersign.class);
    }

    private static Countersign createAccount(ExtensionContext context) {
        boolean isOwn = hasOwnServer(context);
        // JUnit closes what is in a store at the end of its context: of the test, or of the whole run.
        // The keys differ because a store also returns what the stores around it have.
        Held held = isOwn
                ? context.getStore(NAMESPACE).getOrComputeIfAbsent("own", key -> new Held(Server.start()), Held.class)
                : context.getRoot()
                        .getStore(NAMESPACE)
                        .getOrComputeIfAbsent("shared", key -> new Held(Server.shared()), Held.class);
        return new Countersign(held.server(), context.getDisplayName());
    }

    /** Returns whether the test, its class, or a class around that has the annotation. */
    private static boolean hasOwnServer(ExtensionContext context) {
        return AnnotationSupport.isAnnotated(context.getElement(), OwnServer.class)
                || context.getParent().map(CountersignExtension::hasOwnServer).orElse(false);
    }

    @Override
    public void afterEach(ExtensionContext context) {
        Countersign countersign = context.getStore(NAMESPACE).get(Countersign.class, Countersign.class);
        if (countersign != null) {
            context.getExecutionException().ifPresent(error -> error.addSuppressed(new Report(countersign.report())));
        }
    }

    private record Held(Server server) implements CloseableResource {
        @Override
        public void close() {
            server.close();
        }
    }

    /** The report about a failed test. It is no failure itself, so it has no stack trace. */
    private static final class Report extends Exception {
        private static final long serialVersionUID = 1;

        Report(String message) {
            super(message, null, false, false);
        }
    }
}
