import org.junit.runner.JUnitCore;
import org.junit.runner.notification.Failure;

/** Runs the operations under Robolectric, without JUnit's output. */
public final class Main {
    public static void main(String[] arguments) {
        var result = JUnitCore.runClasses(Operations.class);
        for (Failure failure : result.getFailures()) {
            System.out.println("failed " + failure.getDescription().getMethodName());
            System.out.println(failure.getTrace());
        }
        // Threads of the SDK or Robolectric may still run and would keep the process alive.
        System.exit(result.wasSuccessful() && result.getRunCount() > 0 ? 0 : 1);
    }
}
