package streams;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.time.Instant;

/** A usage record, read in one pass by a streaming parser; one object is used for all records of a task. */
final class Usage {
    private static final JsonFactory JSON = new JsonFactory();
    private static final long MILLIS_PER_DAY = 86_400_000L;

    String id;
    String source;
    String account;
    String user;
    String model;
    long time;
    long inputTokens;
    long outputTokens;

    /** The last date that was read, and its first millisecond. */
    private String date = "";
    private long dateMillis;

    void read(byte[] value, long timestamp) throws IOException {
        id = source = account = user = model = null;
        inputTokens = outputTokens = 0;
        time = timestamp;
        try (JsonParser parser = JSON.createParser(value)) {
            parser.nextToken();
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String name = parser.currentName();
                parser.nextToken();
                switch (name) {
                    case "id" -> id = parser.getText();
                    case "source" -> source = parser.getText();
                    case "subject" -> account = parser.getText();
                    case "time" -> time = instant(parser.getText());
                    case "data" -> readData(parser);
                    default -> parser.skipChildren();
                }
            }
        }
        if (id == null || source == null || account == null) {
            throw new IOException("a record without id, source or subject");
        }
    }

    private void readData(JsonParser parser) throws IOException {
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "user" -> user = parser.getText();
                case "model" -> model = parser.getText();
                case "input_tokens" -> inputTokens = parser.getLongValue();
                case "output_tokens" -> outputTokens = parser.getLongValue();
                default -> parser.skipChildren();
            }
        }
    }

    /** Most times have the form 2026-11-20T07:00:00.250Z, and the date of the one before. */
    private long instant(String text) {
        if (text.length() != 24 || text.charAt(23) != 'Z' || text.charAt(19) != '.') {
            return Instant.parse(text).toEpochMilli();
        }
        if (!text.startsWith(date) || date.isEmpty()) {
            date = text.substring(0, 10);
            dateMillis = Math.floorDiv(Instant.parse(text).toEpochMilli(), MILLIS_PER_DAY) * MILLIS_PER_DAY;
        }
        int seconds = (two(text, 11) * 60 + two(text, 14)) * 60 + two(text, 17);
        int millis = two(text, 20) * 10 + text.charAt(22) - '0';
        return dateMillis + seconds * 1_000L + millis;
    }

    private static int two(String text, int at) {
        return (text.charAt(at) - '0') * 10 + text.charAt(at + 1) - '0';
    }
}
