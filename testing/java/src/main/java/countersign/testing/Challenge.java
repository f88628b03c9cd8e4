package countersign.testing;

import java.util.Map;

/** A challenge as a phone shows it. */
public final class Challenge {
    private final Values values;

    Challenge(Object json) {
        values = new Values(json);
    }

    public String sid() {
        return values.text("sid");
    }

    public String status() {
        return values.text("status");
    }

    public String message() {
        return values.object("details").text("message");
    }

    /** Returns the value of the field with this label in any case, for example the number to be typed. */
    public String field(String label) {
        return values.object("details").objects("fields").stream()
                .filter(field -> label.equalsIgnoreCase(field.text("label")))
                .findFirst()
                .map(field -> field.text("value"))
                .orElseThrow(() -> new CountersignException("the challenge has no field " + label));
    }

    /** Returns all members of the JSON. */
    public Map<String, Object> json() {
        return values.members();
    }
}
