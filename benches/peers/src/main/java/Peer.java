import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * One topology of the bench `peers`, by Kafka Streams: exactly-once, a commit every 100 ms, no record cache.
 * Arguments: brokers, application, topology, input, output, state directory, threads. Prints when it runs and
 * what it restored, a line each.
 */
public final class Peer {
    public static void main(final String[] args) {
        final Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[6]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        config.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        // A member that was killed comes back as itself, without waiting for its session to end.
        config.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG), args[1] + "-1");
        final KafkaStreams streams = new KafkaStreams(topology(args[2], args[3], args[4]), config);
        streams.setGlobalStateRestoreListener(new Restores());
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.start();
    }

    private static Topology topology(final String name, final String input, final String output) {
        final StreamsBuilder builder = new StreamsBuilder();
        final var bytes = Serdes.ByteArray();
        final var stream = builder.stream(input, Consumed.with(bytes, bytes));
        final var grouped = stream.groupByKey(Grouped.with(bytes, bytes));
        switch (name) {
            case "pass" -> stream.to(output, Produced.with(bytes, bytes));
            case "count" -> grouped.count(Materialized.as("store"))
                .toStream().to(output, Produced.with(bytes, Serdes.Long()));
            case "window" -> grouped
                .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(5), Duration.ofMinutes(1)))
                .count(Materialized.as("store")).toStream()
                .to(output, Produced.with(
                    new WindowedSerdes.TimeWindowedSerde<>(bytes, Duration.ofMinutes(5).toMillis()), Serdes.Long()));
            case "latest" -> {
                grouped.reduce((before, now) -> now, Materialized.as("store"))
                    .toStream().to(output, Produced.with(bytes, bytes));
                // Tasks without a store, which run while the others are restored.
                builder.stream("beside", Consumed.with(bytes, bytes))
                    .to(output + "-beside", Produced.with(bytes, bytes));
            }
            default -> throw new IllegalArgumentException("no topology " + name);
        }
        return builder.build();
    }

    /** Counts what all stores restore, and the time from the first start to the last end. */
    private static final class Restores implements StateRestoreListener {
        private long began;
        private long records;

        @Override
        public synchronized void onRestoreStart(final TopicPartition partition, final String store,
                                                final long from, final long to) {
            began = began == 0 ? System.nanoTime() : began;
        }

        @Override
        public void onBatchRestored(final TopicPartition partition, final String store,
                                    final long to, final long count) {
        }

        @Override
        public synchronized void onRestoreEnd(final TopicPartition partition, final String store, final long total) {
            records += total;
            System.out.println("restored " + records + " " + (System.nanoTime() - began) / 1_000_000);
        }
    }
}
