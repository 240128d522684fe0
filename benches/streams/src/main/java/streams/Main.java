package streams;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.apache.kafka.streams.state.Stores;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.Cache;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;

/** Main BROKERS USAGE EVENTS rocksdb|memory RECORDS DIRECTORY: catches up and prints records/s, CPU and memory. */
public final class Main {
    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0];
        String mode = arguments[3];
        long records = Long.parseLong(arguments[4]);
        KafkaStreams streams = new KafkaStreams(topology(arguments[1], arguments[2], mode), configuration(brokers, mode,
            arguments[5]));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(70);
            return null;
        });
        streams.start();
        while (Meter.PROCESSED.sum() == 0) {
            Thread.sleep(5);
        }
        long begun = System.nanoTime();
        long first = Meter.PROCESSED.sum();
        while (Meter.PROCESSED.sum() < records) {
            Thread.sleep(20);
        }
        double seconds = (System.nanoTime() - begun) / 1e9;
        OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        System.out.printf("%s %.0f records/s, %.2f CPU microseconds each, %d MB resident, %d refused%n", mode,
            (records - first) / seconds, system.getProcessCpuTime() / 1e3 / records, residentMegabytes(),
            Meter.REFUSED.sum());
        streams.close(Duration.ofSeconds(20));
        streams.cleanUp();
    }

    private static Topology topology(String usage, String events, String mode) {
        boolean memory = mode.equals("memory");
        Duration late = Duration.ofMillis(Meter.LATE_MILLIS);
        // A point lookup by identity and window; a window's identities go together.
        var identities = memory
            ? Stores.inMemoryWindowStore(Meter.IDENTITIES, late.multipliedBy(2), late, false)
            : Stores.persistentWindowStore(Meter.IDENTITIES, late.multipliedBy(2), late, false);
        var accounts = memory
            ? Stores.inMemoryKeyValueStore(Meter.ACCOUNTS) : Stores.persistentKeyValueStore(Meter.ACCOUNTS);
        // What the brokers keep of the changes is compressed by the producer.
        Map<String, String> changelog = Map.of("segment.bytes", "268435456");
        return new Topology()
            .addSource("usage", new ByteArrayDeserializer(), new ByteArrayDeserializer(), usage)
            .addProcessor("meter", Meter::new, "usage")
            .addStateStore(Stores.keyValueStoreBuilder(accounts, Serdes.Bytes(), Serdes.ByteArray())
                .withCachingDisabled().withLoggingEnabled(changelog), "meter")
            .addStateStore(Stores.windowStoreBuilder(identities, Serdes.Bytes(), Serdes.ByteArray())
                .withCachingDisabled().withLoggingEnabled(changelog), "meter")
            .addSink("events", events, new ByteArraySerializer(), new ByteArraySerializer(), "meter");
    }

    private static Properties configuration(String brokers, String mode, String directory) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-" + mode + "-" + System.currentTimeMillis());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        properties.put(StreamsConfig.METRICS_RECORDING_LEVEL_CONFIG, "INFO");
        properties.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5_000);
        properties.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Tuned.class);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128 << 20);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return properties;
    }

    private static long residentMegabytes() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmRSS:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1_024;
            }
        }
        return 0;
    }

    /** One block cache for all stores, larger memtables than the default, bloom filters, no compression of hot data. */
    public static final class Tuned implements RocksDBConfigSetter {
        private static final Cache CACHE = new LRUCache(512L << 20);
        private static final BloomFilter BLOOM = new BloomFilter(10);

        @Override
        public void setConfig(String store, Options options, Map<String, Object> configuration) {
            BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
            table.setBlockCache(CACHE);
            table.setFilterPolicy(BLOOM);
            table.setCacheIndexAndFilterBlocks(true);
            options.setTableFormatConfig(table);
            options.setWriteBufferSize(32L << 20);
            options.setMaxWriteBufferNumber(3);
        }

        @Override
        public void close(String store, Options options) {}
    }
}
