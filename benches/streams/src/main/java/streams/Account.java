package streams;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * The state of an account, compact and binary. It is changed in place in its bytes where nothing new comes to it.
 *
 * <pre>
 * head: granted, drawn, period start, period used, week start, week used, month records, window total   (8 bytes each)
 * then: count of panes (2), newest pane (4), for each pane its number below the newest (2) and amount (8)
 * then: count of totals (2), for each: kind (1), length of its name (1), the name, records (8), charged (8)
 * </pre>
 */
final class Account {
    static final long PANE_MILLIS = 60_000L;
    static final int PANES = 300;
    private static final int HEAD = 64;

    private final int[] panes = new int[PANES];
    private final long[] amounts = new long[PANES];
    private byte[] bytes = new byte[4_096];
    private ByteBuffer buffer = ByteBuffer.wrap(bytes);
    private int length;

    void begin(long granted, long now) {
        Arrays.fill(bytes, 0, HEAD + 8, (byte) 0);
        buffer.putLong(0, granted).putLong(16, now);
        length = HEAD + 8;
    }

    void load(byte[] stored) {
        if (stored.length + 2_048 > bytes.length) {
            bytes = new byte[2 * stored.length + 4_096];
            buffer = ByteBuffer.wrap(bytes);
        }
        System.arraycopy(stored, 0, bytes, 0, stored.length);
        length = stored.length;
    }

    byte[] store() {
        return Arrays.copyOf(bytes, length);
    }

    long granted() {
        return buffer.getLong(0);
    }

    long drawn() {
        return buffer.getLong(8);
    }

    void draw(long amount) {
        buffer.putLong(8, buffer.getLong(8) + amount);
    }

    long period(long quantity) {
        long used = buffer.getLong(24) + quantity;
        buffer.putLong(24, used);
        return used;
    }

    /** A window of seven days that begins with its first use. */
    long week(long amount, long at) {
        if (at >= buffer.getLong(32) + 7 * 86_400_000L) {
            buffer.putLong(32, at).putLong(40, 0);
        }
        long used = buffer.getLong(40) + amount;
        buffer.putLong(40, used);
        return used;
    }

    /** A sliding window of five hours in 300 panes; what is used in it at `now` with this amount. */
    long slide(long amount, long at, long now) {
        int count = buffer.getShort(HEAD);
        int newest = buffer.getInt(HEAD + 2);
        int pane = (int) (at / PANE_MILLIS);
        int current = (int) (now / PANE_MILLIS);
        long total = buffer.getLong(56);
        int kept = 0;
        boolean placed = pane <= current - PANES;
        int before = HEAD + 6 + 10 * count;
        for (int index = 0, from = HEAD + 6; index < count; index++, from += 10) {
            int number = newest - buffer.getShort(from);
            long held = buffer.getLong(from + 2);
            if (number <= current - PANES) {
                total -= held;
                continue;
            }
            if (number == pane) {
                held += amount;
                total += amount;
                placed = true;
            }
            panes[kept] = number;
            amounts[kept++] = held;
        }
        if (!placed) {
            int place = kept++;
            while (place > 0 && panes[place - 1] > pane) {
                panes[place] = panes[place - 1];
                amounts[place] = amounts[--place];
            }
            panes[place] = pane;
            amounts[place] = amount;
            total += amount;
        }
        newest = kept == 0 ? 0 : panes[kept - 1];
        int after = HEAD + 6 + 10 * kept;
        if (after != before) {
            System.arraycopy(bytes, before, bytes, after, length - before);
            length += after - before;
        }
        buffer.putShort(HEAD, (short) kept).putInt(HEAD + 2, newest).putLong(56, total);
        for (int index = 0, to = HEAD + 6; index < kept; index++, to += 10) {
            buffer.putShort(to, (short) (newest - panes[index])).putLong(to + 2, amounts[index]);
        }
        return total;
    }

    /** Counts a record under a user or a model. */
    void total(byte kind, String name, long charged) {
        if (name == null) {
            return;
        }
        byte[] text = name.getBytes(StandardCharsets.UTF_8);
        int start = HEAD + 6 + 10 * buffer.getShort(HEAD);
        int count = buffer.getShort(start);
        int at = start + 2;
        for (int index = 0; index < count; index++) {
            int size = bytes[at + 1] & 0xff;
            int end = at + 2 + size;
            if (bytes[at] == kind && Arrays.equals(bytes, at + 2, end, text, 0, text.length)) {
                buffer.putLong(end, buffer.getLong(end) + 1).putLong(end + 8, buffer.getLong(end + 8) + charged);
                return;
            }
            at = end + 16;
        }
        buffer.putShort(start, (short) (count + 1));
        bytes[at] = kind;
        bytes[at + 1] = (byte) text.length;
        System.arraycopy(text, 0, bytes, at + 2, text.length);
        buffer.putLong(at + 2 + text.length, 1).putLong(at + 10 + text.length, charged);
        length = at + 18 + text.length;
    }
}
