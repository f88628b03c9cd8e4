import org.junit.runner.JUnitCore;
import org.junit.runner.notification.Failure;

/** Runs the operations under Robolectric, without JUnit's own chatter. */
public final class Main {
    public static void main(String[] arguments) {
        var result = JUnitCore.runClasses(Operations.class);
        for (Failure failure : result.getFailures()) {
            System.out.println("failed " + failure.getDescription().getMethodName());
            System.out.println(failure.getTrace());
        }
        // Threads that the SDK or Robolectric have left running would keep the process alive.
        System.exit(result.wasSuccessful() && result.getRunCount() > 0 ? 0 : 1);
    }
}
