package countersign.testing;

import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The members of a JSON object. A member that is missing reads as null, 0 or empty. */
record Values(Map<String, Object> members) {
    @SuppressWarnings("unchecked")
    Values(Object json) {
        this((Map<String, Object>) json);
    }

    String text(String name) {
        Object value = members.get(name);
        return value == null ? null : value.toString();
    }

    long number(String name) {
        return members.get(name) instanceof Number number ? number.longValue() : 0;
    }

    Instant instant(String name) {
        return OffsetDateTime.parse(text(name)).toInstant();
    }

    Values object(String name) {
        return members.get(name) instanceof Map<?, ?> object ? new Values((Object) object) : new Values(Map.of());
    }

    List<?> list(String name) {
        return members.get(name) instanceof List<?> list ? list : List.of();
    }

    List<Values> objects(String name) {
        return list(name).stream().map(item -> new Values((Object) item)).toList();
    }

    Map<String, String> texts() {
        Map<String, String> texts = new LinkedHashMap<>();
        members.forEach((name, value) -> texts.put(name, Objects.toString(value, null)));
        return texts;
    }

    /** Returns the members that are present, in this order, separated by blanks. */
    String words(String... names) {
        return Stream.of(names).map(this::text).filter(Objects::nonNull).collect(Collectors.joining(" "));
    }
}
