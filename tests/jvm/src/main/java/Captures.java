import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestOutputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TableJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.TimeWindowedSerializer;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.kstream.SessionWindowedSerializer;
import org.apache.kafka.streams.kstream.internals.Change;
import org.apache.kafka.streams.kstream.internals.ChangedSerializer;
import org.apache.kafka.streams.kstream.internals.SessionWindow;
import org.apache.kafka.streams.kstream.internals.TimeWindow;
import org.apache.kafka.streams.kstream.internals.WindowedStreamPartitioner;
import org.apache.kafka.streams.kstream.internals.foreignkeyjoin.SubscriptionResponseWrapper;
import org.apache.kafka.streams.kstream.internals.foreignkeyjoin.SubscriptionResponseWrapperSerde;
import org.apache.kafka.streams.kstream.internals.foreignkeyjoin.SubscriptionWrapper;
import org.apache.kafka.streams.kstream.internals.foreignkeyjoin.SubscriptionWrapperSerde;
import org.apache.kafka.streams.processor.internals.ProcessorMetadata;
import org.apache.kafka.streams.processor.internals.TopicPartitionMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.ValueAndTimestamp;
import org.apache.kafka.streams.state.internals.Murmur3;
import org.apache.kafka.streams.state.internals.SessionKeySchema;
import org.apache.kafka.streams.state.internals.ValueAndTimestampSerde;
import org.apache.kafka.streams.state.internals.WindowKeySchema;
import org.apache.kafka.streams.test.TestRecord;

/** Writes, as JSON to the file named, bytes that Kafka Streams itself writes; they are in hexadecimal. */
public final class Captures {
    private static final String[] KEYS = {"", "a", "ab", "abc", "abcd", "hello world", "\u00e9\u4e16"};

    public static void main(final String[] args) throws IOException {
        final List<String> sections = new ArrayList<>();
        sections.add("\"kafka_streams\": " + quote(org.apache.kafka.common.utils.AppInfoParser.getVersion()));
        sections.add(section("partition", Captures::partitions));
        sections.add(section("time_windowed_key", Captures::timeWindowedKeys));
        sections.add(section("window_store_key", Captures::windowStoreKeys));
        sections.add(section("session_key", Captures::sessionKeys));
        sections.add(section("value_and_timestamp", Captures::valuesAndTimestamps));
        sections.add(section("change", Captures::changes));
        sections.add(section("offset_metadata", Captures::offsetMetadata));
        sections.add(section("murmur3", Captures::hashes));
        sections.add(section("subscription", Captures::subscriptions));
        sections.add(section("subscription_response", Captures::responses));
        sections.add(section("topics", Captures::topics));
        Files.writeString(Path.of(args[0]), "{\n" + String.join(",\n", sections) + "\n}\n");
    }

    private static void partitions(final Consumer<String> out) {
        for (final String key : KEYS) {
            final byte[] bytes = utf8(key);
            out.accept(object("key", hex(bytes), "murmur2", Utils.murmur2(bytes),
                "of_7", BuiltInPartitioner.partitionForKey(bytes, 7)));
        }
    }

    private static void timeWindowedKeys(final Consumer<String> out) {
        final TimeWindowedSerializer<String> serializer = new TimeWindowedSerializer<>(new StringSerializer());
        final WindowedStreamPartitioner<String, String> partitioner = new WindowedStreamPartitioner<>(serializer);
        for (final long start : new long[] {0, 60_000, 1_700_000_000_000L}) {
            final Windowed<String> key = new Windowed<>("ab", new TimeWindow(start, start + 60_000));
            out.accept(object("key", hex(utf8("ab")), "start", start, "size", 60_000,
                "bytes", hex(serializer.serialize("t", key)),
                "of_7", partitioner.partitions("t", key, "v", 7).get().iterator().next()));
        }
    }

    private static void windowStoreKeys(final Consumer<String> out) {
        for (final int seqnum : new int[] {0, 1, Integer.MAX_VALUE}) {
            final Bytes bytes = WindowKeySchema.toStoreKeyBinary(Bytes.wrap(utf8("ab")), 60_000L, seqnum);
            out.accept(object("key", hex(utf8("ab")), "start", 60_000, "seqnum", seqnum,
                "bytes", hex(bytes.get())));
        }
    }

    private static void sessionKeys(final Consumer<String> out) {
        final SessionWindowedSerializer<String> serializer = new SessionWindowedSerializer<>(new StringSerializer());
        final Windowed<String> key = new Windowed<>("ab", new SessionWindow(5, 1_700_000_000_000L));
        out.accept(object("where", quote("topic"), "key", hex(utf8("ab")), "start", 5, "end", 1_700_000_000_000L,
            "bytes", hex(serializer.serialize("t", key))));
        out.accept(object("where", quote("store"), "key", hex(utf8("")), "start", 5, "end", 5,
            "bytes", hex(SessionKeySchema.toBinary(Bytes.wrap(utf8("")), 5, 5).get())));
    }

    private static void valuesAndTimestamps(final Consumer<String> out) {
        final ValueAndTimestampSerde<String> serde = new ValueAndTimestampSerde<>(Serdes.String());
        for (final String value : KEYS) {
            out.accept(object("value", hex(utf8(value)), "timestamp", 1_700_000_000_000L,
                "bytes", hex(serde.serializer().serialize("t", ValueAndTimestamp.make(value, 1_700_000_000_000L)))));
        }
    }

    private static void changes(final Consumer<String> out) {
        final ChangedSerializer<String> serializer = new ChangedSerializer<>(new StringSerializer());
        final String large = "x".repeat(300);
        final String[][] pairs = {
            {null, "new"}, {"old", null}, {"old", "new"}, {"", "new"}, {"old", ""}, {"", ""}, {null, ""},
            {"old", "y".repeat(63)}, {"old", "y".repeat(64)}, {"o", large},
        };
        for (final String[] pair : pairs) {
            out.accept(object("old", hex(utf8(pair[0])), "new", hex(utf8(pair[1])),
                "bytes", hex(serializer.serialize("t", new RecordHeaders(), new Change<>(pair[1], pair[0])))));
        }
    }

    private static void offsetMetadata(final Consumer<String> out) {
        final List<Map<String, Long>> maps = List.of(
            Map.of(), Map.of("store", 42L), Map.of("counts", 1_700_000_000_000L, "s\u00e9ssions", -1L));
        for (final Map<String, Long> map : maps) {
            for (final long time : new long[] {-1, 0, 1_700_000_000_000L}) {
                final String text = new TopicPartitionMetadata(time, new ProcessorMetadata(new TreeMap<>(map))).encode();
                final List<Object> entries = new ArrayList<>();
                new TreeMap<>(map).forEach((name, value) -> {
                    entries.add(name);
                    entries.add(value);
                });
                out.accept(object("partition_time", time, "processors", object(entries.toArray()),
                    "text", quote(text)));
            }
        }
    }

    private static void hashes(final Consumer<String> out) {
        final List<byte[]> all = new ArrayList<>();
        for (int length = 0; length <= 33; length++) {
            final byte[] bytes = new byte[length];
            for (int i = 0; i < length; i++) {
                bytes[i] = (byte) (251 * i + 127);
            }
            all.add(bytes);
        }
        for (final byte[] bytes : all) {
            out.accept(object("bytes", hex(bytes), "hash", hex(hash(bytes))));
        }
    }

    private static byte[] hash(final byte[] bytes) {
        final long[] hash = Murmur3.hash128(bytes);
        return ByteBuffer.allocate(16).putLong(hash[0]).putLong(hash[1]).array();
    }

    private static void subscriptions(final Consumer<String> out) {
        final SubscriptionWrapperSerde<String> serde = new SubscriptionWrapperSerde<>(() -> "t", Serdes.String());
        for (final SubscriptionWrapper.Instruction instruction : SubscriptionWrapper.Instruction.values()) {
            for (final String value : new String[] {null, "left"}) {
                final long[] hash = value == null ? null : Murmur3.hash128(utf8(value));
                final var wrapper = new SubscriptionWrapper<>(hash, instruction, "key", 3);
                out.accept(object("instruction", instruction.value(), "hash", value == null ? "null" : hex(hash(utf8(value))),
                    "key", hex(utf8("key")), "partition", 3, "bytes", hex(serde.serializer().serialize("t", new RecordHeaders(), wrapper))));
            }
        }
    }

    private static void responses(final Consumer<String> out) {
        final SubscriptionResponseWrapperSerde<String> serde = new SubscriptionResponseWrapperSerde<>(Serdes.String());
        for (final String value : new String[] {null, "left"}) {
            for (final String foreign : new String[] {null, "right"}) {
                final long[] hash = value == null ? null : Murmur3.hash128(utf8(value));
                final var wrapper = new SubscriptionResponseWrapper<>(hash, foreign, 3);
                out.accept(object("hash", value == null ? "null" : hex(hash(utf8(value))), "foreign", hex(utf8(foreign)),
                    "bytes", hex(serde.serializer().serialize("t", new RecordHeaders(), wrapper))));
            }
        }
    }

    /** What a small topology writes to its internal topics. */
    private static void topics(final Consumer<String> out) {
        final Duration minute = Duration.ofMinutes(1);
        final StreamsBuilder builder = new StreamsBuilder();
        final var input = builder.stream("in", Consumed.with(Serdes.String(), Serdes.String()));
        final var grouped = input.groupByKey(Grouped.with(Serdes.String(), Serdes.String()));
        grouped.count(Materialized.as("counts"));
        final var windows = TimeWindows.ofSizeAndGrace(minute, Duration.ZERO);
        grouped.windowedBy(windows).count(Materialized.as("windows"))
            .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()).withName("closing"))
            .toStream()
            .to("closed", Produced.with(WindowedSerdes.timeWindowedSerdeFrom(String.class, 60_000L), Serdes.Long()));
        grouped.windowedBy(SessionWindows.ofInactivityGapWithNoGrace(minute)).count(Materialized.as("sessions"));
        builder.table("rows", Consumed.with(Serdes.String(), Serdes.String()))
            .groupBy((key, value) -> KeyValue.pair("all", value),
                Grouped.with("by-value", Serdes.String(), Serdes.String()))
            .reduce((sum, value) -> sum + "+" + value, (sum, value) -> sum + "-" + value,
                Named.as("total"), Materialized.as("totals"));
        final var other = builder.stream("other", Consumed.with(Serdes.String(), Serdes.String()));
        input.outerJoin(other, (left, right) -> left + right,
            JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofSeconds(1)),
            StreamJoined.with(Serdes.String(), Serdes.String(), Serdes.String())
                .withName("join").withStoreName("join")).to("joined", Produced.with(Serdes.String(), Serdes.String()));
        grouped.windowedBy(SessionWindows.ofInactivityGapWithNoGrace(Duration.ofSeconds(10)))
            .count(Materialized.as("short-sessions"))
            .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()).withName("closing-sessions"))
            .toStream()
            .to("closed-sessions", Produced.with(WindowedSerdes.sessionWindowedSerdeFrom(String.class), Serdes.Long()));
        final var left = builder.table("left", Consumed.with(Serdes.String(), Serdes.String()), Materialized.as("lefts"));
        final var right = builder.table("right", Consumed.with(Serdes.String(), Serdes.String()), Materialized.as("rights"));
        left.leftJoin(right, value -> value.substring(0, 1), (mine, other1) -> mine + other1, TableJoined.as("foreign"),
            Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as("by-foreign-key")
                .withKeySerde(Serdes.String()).withValueSerde(Serdes.String()));
        builder.table("versioned", Consumed.with(Serdes.String(), Serdes.String()),
            Materialized.as(Stores.persistentVersionedKeyValueStore("versions", Duration.ofHours(1))));

        final Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, "app");
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "none:1");
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        try (TopologyTestDriver driver = new TopologyTestDriver(builder.build(), config)) {
            final var in = driver.createInputTopic("in", new StringSerializer(), new StringSerializer());
            in.pipeInput("a", "1", 1_000L);
            in.pipeInput("b", "2", 2_000L);
            in.pipeInput("a", "3", 50_000L);
            in.pipeInput("a", "4", 70_000L);
            driver.createInputTopic("other", new StringSerializer(), new StringSerializer())
                .pipeInput("c", "5", 70_500L);
            final var rows = driver.createInputTopic("rows", new StringSerializer(), new StringSerializer());
            rows.pipeInput("r", "x", 71_000L);
            rows.pipeInput("r", "y", 72_000L);
            rows.pipeInput("r", (String) null, 73_000L);
            in.pipeInput(new TestRecord<>("d", "6", new RecordHeaders().add("trace", utf8("t")).add("none", null),
                java.time.Instant.ofEpochMilli(74_000L)));
            final var lefts = driver.createInputTopic("left", new StringSerializer(), new StringSerializer());
            final var rights = driver.createInputTopic("right", new StringSerializer(), new StringSerializer());
            lefts.pipeInput("1", "a1", 80_000L);
            rights.pipeInput("a", "A", 81_000L);
            lefts.pipeInput("1", "b1", 82_000L);
            rights.pipeInput("a", (String) null, 83_000L);
            rights.pipeInput("b", "B", 84_000L);
            lefts.pipeInput("1", (String) null, 85_000L);
            final var versioned = driver.createInputTopic("versioned", new StringSerializer(), new StringSerializer());
            versioned.pipeInput("v", "new", 90_000L);
            versioned.pipeInput("v", "old", 80_000L);
            versioned.pipeInput("v", (String) null, 95_000L);
            for (final String topic : new java.util.TreeSet<>(driver.producedTopicNames())) {
                final TestOutputTopic<byte[], byte[]> output =
                    driver.createOutputTopic(topic, new ByteArrayDeserializer(), new ByteArrayDeserializer());
                for (final TestRecord<byte[], byte[]> record : output.readRecordsToList()) {
                    final List<String> headers = new ArrayList<>();
                    record.headers().forEach(header -> headers.add(
                        object("name", quote(header.key()), "value", hex(header.value()))));
                    out.accept(object("topic", quote(topic), "key", hex(record.key()),
                        "value", hex(record.value()), "timestamp", record.timestamp(),
                        "headers", "[" + String.join(", ", headers) + "]"));
                }
            }
        }
    }

    private static byte[] utf8(final String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    private static String hex(final byte[] bytes) {
        return bytes == null ? "null" : quote(HexFormat.of().formatHex(bytes));
    }

    private static String quote(final String text) {
        return "\"" + text + "\"";
    }

    private static String object(final Object... pairs) {
        final List<String> fields = new ArrayList<>();
        for (int i = 0; i < pairs.length; i += 2) {
            fields.add(quote((String) pairs[i]) + ": " + pairs[i + 1]);
        }
        return "{" + String.join(", ", fields) + "}";
    }

    private static String section(final String name, final Consumer<Consumer<String>> fill) {
        final List<String> rows = new ArrayList<>();
        fill.accept(rows::add);
        return quote(name) + ": [\n  " + String.join(",\n  ", rows) + "\n]";
    }
}
