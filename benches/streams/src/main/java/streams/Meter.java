package streams;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/** Identity, price, draw, three limits, totals: what meterd does with a record under benches/catalog.toml. */
final class Meter implements Processor<byte[], byte[], byte[], byte[]> {
    static final String ACCOUNTS = "accounts";
    static final String IDENTITIES = "identities";
    static final long LATE_MILLIS = 3_600_000L;
    static final LongAdder PROCESSED = new LongAdder();
    static final LongAdder REFUSED = new LongAdder();

    private static final long NANOS = 1_000_000_000L;
    private static final long GRANT = 1_000_000L * NANOS;
    private static final long CAP_5H = 4_000L * NANOS;
    private static final long CAP_WEEK = 500_000L * NANOS;
    private static final long CAP_PERIOD = 1_000_000_000L;
    private static final byte[] SEEN = {1};
    private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private final Usage usage = new Usage();
    private final Account account = new Account();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, byte[]> accounts;
    private WindowStore<Bytes, byte[]> identities;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        accounts = context.getStateStore(ACCOUNTS);
        identities = context.getStateStore(IDENTITIES);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        PROCESSED.increment();
        try {
            usage.read(record.value(), record.timestamp());
        } catch (IOException | RuntimeException refused) {
            REFUSED.increment();
            return;
        }
        long now = record.timestamp();
        if (usage.time < now - LATE_MILLIS || !isNew()) {
            REFUSED.increment();
            return;
        }
        Bytes key = Bytes.wrap(record.key());
        byte[] stored = accounts.get(key);
        if (stored == null) {
            account.begin(GRANT, now);
            tell(record, "period.started");
        } else {
            account.load(stored);
        }
        long charged = usage.inputTokens * 5_000L + usage.outputTokens * 25_000L;
        boolean hadCredit = account.drawn() < account.granted();
        account.draw(charged);
        if (hadCredit && account.drawn() >= account.granted()) {
            tell(record, "balance.exhausted");
        }
        told(record, "5h", account.slide(charged, usage.time, now), charged, CAP_5H);
        told(record, "weekly", account.week(charged, usage.time), charged, CAP_WEEK);
        told(record, "period", account.period(usage.outputTokens), usage.outputTokens, CAP_PERIOD);
        account.total((byte) 1, usage.user, charged);
        account.total((byte) 2, usage.model, charged);
        accounts.put(key, account.store());
    }

    /** Looks an identity up in the window of its time, which is forgotten as a whole. */
    private boolean isNew() {
        byte[] text = (usage.account + '\0' + usage.source + '\0' + usage.id).getBytes(StandardCharsets.UTF_8);
        Bytes identity = Bytes.wrap(hash(text));
        long window = usage.time - usage.time % LATE_MILLIS;
        if (identities.fetch(identity, window) != null) {
            return false;
        }
        identities.put(identity, SEEN, window);
        return true;
    }

    private static byte[] hash(byte[] text) {
        long one = 0x9E3779B97F4A7C15L ^ text.length;
        long two = 0xC2B2AE3D27D4EB4FL;
        int at = 0;
        for (; at + 8 <= text.length; at += 8) {
            long word = (long) LONGS.get(text, at);
            one = Long.rotateLeft(one ^ word * 0x87C37B91114253D5L, 31) * 5 + 0x52DCE729;
            two = Long.rotateLeft(two + word, 33) * 0x4CF5AD432745937FL ^ one;
        }
        for (; at < text.length; at++) {
            one = (one ^ text[at]) * 0x100000001B3L;
            two = Long.rotateLeft(two + one, 17) * 0x4CF5AD432745937FL;
        }
        return ByteBuffer.allocate(16).putLong(mixed(one)).putLong(mixed(two ^ one)).array();
    }

    private static long mixed(long value) {
        value = (value ^ value >>> 33) * 0xFF51AFD7ED558CCDL;
        value = (value ^ value >>> 33) * 0xC4CEB9FE1A85EC53L;
        return value ^ value >>> 33;
    }

    private void told(Record<byte[], byte[]> record, String limit, long used, long added, long cap) {
        if (used >= cap && used - added < cap) {
            tell(record, "cap.exceeded\",\"limit\":\"" + limit);
        }
    }

    private void tell(Record<byte[], byte[]> record, String kind) {
        String notice = "{\"specversion\":\"1.0\",\"type\":\"" + kind + "\",\"subject\":\"" + usage.account
            + "\",\"cause\":\"" + usage.id + "\"}";
        context.forward(record.withValue(notice.getBytes(StandardCharsets.UTF_8)));
    }
}
