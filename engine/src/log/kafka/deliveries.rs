//! What the broker says about each record of the open transaction: the offset after the last one of
//! each partition, or the first refusal. Filled by whoever polls the producer. Knows no thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::classify;
use super::context::Voice;
use super::sizes::{InFlight, Sizes};
use crate::actor::Bell;
use crate::error::ErrorClass;
use crate::log::{LogError, LogResult};
use crate::record::{RecordPrint, TopicPartition};

/// The producer's context: every delivery report comes here.
pub(super) struct Deliveries {
    voice: Voice,
    bell: Bell,
    starved: AtomicBool,
    /// The companion polls, or is about to.
    polled: AtomicBool,
    sizes: Arc<Sizes>,
    open: Mutex<Open>,
}

/// The open transaction.
#[derive(Default)]
struct Open {
    /// Every partition this producer ever wrote to; a record carries its index.
    partitions: Vec<TopicPartition>,
    index: BTreeMap<TopicPartition, usize>,
    /// By index, the offset after the last delivered record.
    ends: Vec<Option<i64>>,
    /// By index, what is in flight to a partition whose batches are limited.
    in_flight: BTreeMap<usize, InFlight>,
    failure: Option<LogError>,
    /// A broker refused a record or a batch for what it is.
    refused: bool,
}

impl Deliveries {
    pub(super) fn new(voice: Voice, bell: Bell, sizes: Arc<Sizes>) -> Self {
        let (starved, polled) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { voice, bell, starved, polled, sizes, open: Mutex::default() }
    }

    /// The client's own voice.
    pub(super) fn voice(&self) -> &Voice {
        &self.voice
    }

    /// Marks the companion as awake; true if it was not.
    pub(super) fn wake(&self) -> bool {
        !self.polled.swap(true, Ordering::AcqRel)
    }

    /// The companion is about to sleep; it must look for work once more before it does.
    pub(super) fn sleep(&self) {
        self.polled.store(false, Ordering::Release);
    }

    /// Forgets the transaction before.
    pub(super) fn begin(&self) {
        let mut open = self.open();
        open.ends.fill(None);
        open.in_flight.values_mut().for_each(InFlight::clear);
        open.failure = None;
        open.refused = false;
    }

    /// The number that records for this partition carry.
    pub(super) fn index_of(&self, partition: &TopicPartition) -> usize {
        let mut open = self.open();
        if let Some(&index) = open.index.get(partition) {
            return index;
        }
        let index = open.partitions.len();
        open.partitions.push(partition.clone());
        open.index.insert(partition.clone(), index);
        open.ends.push(None);
        index
    }

    /// Rings the bell at the next delivery, which makes room.
    pub(super) fn ring_when_room(&self) {
        self.starved.store(true, Ordering::Release);
    }

    /// The first refusal.
    ///
    /// # Errors
    /// That refusal, as often as asked.
    pub(super) fn check(&self) -> LogResult<()> {
        self.open().failure.clone().map_or(Ok(()), Err)
    }

    /// A broker has refused a record of this transaction, or a batch, for what it is.
    pub(super) fn refused_by_broker(&self) -> bool {
        self.open().refused
    }

    /// Counts a record of a partition whose batches are limited as in flight. False if it has to wait.
    pub(super) fn enter(&self, index: usize, bytes: usize, limit: usize) -> bool {
        let mut open = self.open();
        let in_flight = open.in_flight.entry(index).or_default();
        let room = in_flight.has_room(bytes, limit);
        if room {
            in_flight.push(bytes);
        }
        room
    }

    /// The record that was counted last is not on its way after all.
    pub(super) fn leave(&self, index: usize) {
        if let Some(in_flight) = self.open().in_flight.get_mut(&index) {
            in_flight.pop_newest();
        }
    }

    /// The offset after the last record of each partition that got one.
    pub(super) fn ends(&self) -> Vec<(TopicPartition, i64)> {
        let open = self.open();
        let ends = open.partitions.iter().zip(&open.ends);
        ends.filter_map(|(partition, end)| Some((partition.clone(), (*end)?))).collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivered_at(&self, index: usize, offset: i64) {
        let mut open = self.open();
        if offset < 0 {
            // The broker knew the batch already and does not say where it lies.
            let partition = open.partitions[index].clone();
            let error = LogError::new(
                ErrorClass::Abort,
                "deliver a record",
                "it was acknowledged without an offset",
            );
            open.failure.get_or_insert(error.on(&partition));
            return;
        }
        if let Some(in_flight) = open.in_flight.get_mut(&index) {
            in_flight.pop();
        }
        let end = &mut open.ends[index];
        *end = Some(end.map_or(offset + 1, |end| end.max(offset + 1)));
    }

    fn refused(&self, index: usize, error: &KafkaError, message: &impl Message) {
        let mut open = self.open();
        let mut refusal = classify::from_kafka("deliver a record", error);
        refusal.place = open.partitions.get(index).cloned();
        let alone = open.in_flight.get(&index).is_some_and(InFlight::is_alone);
        if let Some(in_flight) = open.in_flight.get_mut(&index) {
            in_flight.pop();
        }
        if refusal.class == ErrorClass::User {
            open.refused = true;
            self.name(&mut refusal, error, message, alone);
        } else if refusal.class == ErrorClass::Retry {
            // librdkafka has given up on it, so the transaction is incomplete.
            refusal.class = ErrorClass::Abort;
        }
        // Of a refused batch the records that are well in themselves are reported too.
        match &mut open.failure {
            Some(known)
                if known.class == ErrorClass::Abort && refusal.class == ErrorClass::User =>
            {
                *known = refusal;
            }
            Some(_) => {}
            none => *none = Some(refusal),
        }
    }

    /// Says which record is refused, or that its batch is, which says nothing of one record.
    fn name(
        &self,
        refusal: &mut LogError,
        error: &KafkaError,
        message: &impl Message,
        alone: bool,
    ) {
        let batch = error.rdkafka_error_code().is_some_and(classify::is_of_a_batch);
        if let Some(to) = refusal.place.as_ref().filter(|_| batch && !alone) {
            self.sizes.refused(&to.topic);
            refusal.class = ErrorClass::Abort;
            refusal.message = format!("a batch is too large, smaller ones follow ({error})");
            return;
        }
        let (key, value) = (message.key(), message.payload());
        let shown = key.map_or_else(|| "null".into(), |key| key.escape_ascii().to_string());
        let bytes = value.map_or(0, <[u8]>::len);
        refusal.message =
            format!("the record with key {shown} and {bytes} bytes: {}", refusal.message);
        refusal.refused = Some(RecordPrint::of(key, value));
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.voice.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ProducerContext for Deliveries {
    /// The partition's index.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(message) => self.delivered_at(index, message.offset()),
            Err((error, message)) => {
                let purged = matches!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
                );
                // Only an abort purges; then nobody asks.
                if !purged {
                    self.refused(index, error, message);
                }
            }
        }
        if self.starved.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;

    fn deliveries() -> Deliveries {
        Deliveries::new(Voice::new("test"), Bell::new(), Arc::default())
    }

    #[test]
    fn ends_are_those_of_the_open_transaction_alone() {
        let deliveries = deliveries();
        let (a, b) = (TopicPartition::new("a", 0), TopicPartition::new("b", 1));
        let (of_a, of_b) = (deliveries.index_of(&a), deliveries.index_of(&b));
        deliveries.delivered_at(of_a, 4);
        deliveries.delivered_at(of_a, 3);
        deliveries.delivered_at(of_b, 9);
        assert_eq!(deliveries.ends(), [(a, 5), (b.clone(), 10)]);
        deliveries.begin();
        assert_eq!(deliveries.index_of(&b), of_b);
        deliveries.delivered_at(of_b, 11);
        assert_eq!(deliveries.ends(), [(b, 12)]);
    }

    /// A record that was to go to `out-3`.
    fn record(key: &str, value: Vec<u8>) -> OwnedMessage {
        let (key, time) = (Some(key.into()), Timestamp::CreateTime(7));
        OwnedMessage::new(Some(value), key, "out".to_owned(), time, 3, -1001, None)
    }

    const TOO_LARGE: KafkaError =
        KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);

    #[test]
    fn a_batch_that_is_too_large_is_sent_again_in_smaller_ones() {
        let deliveries = deliveries();
        let index = deliveries.index_of(&TopicPartition::new("out", 3));
        deliveries.refused(index, &TOO_LARGE, &record("a", vec![0; 9]));
        let refusal = deliveries.check().expect_err("refused");
        assert_eq!((refusal.class, refusal.refused), (ErrorClass::Abort, None));
        assert_eq!(deliveries.sizes.limit("out"), Some(0));
        assert!(deliveries.refused_by_broker());
    }

    #[test]
    fn a_record_that_is_too_large_by_itself_is_the_users_and_named() {
        let deliveries = deliveries();
        let index = deliveries.index_of(&TopicPartition::new("out", 3));
        assert!(deliveries.enter(index, 2_000_000, 0));
        assert!(!deliveries.enter(index, 1, 0), "nothing beside it");
        deliveries.refused(index, &TOO_LARGE, &record("big\n", vec![0; 2_000_000]));
        let refusal = deliveries.check().expect_err("refused");
        assert_eq!(refusal.class, ErrorClass::User);
        let print = RecordPrint::of(Some(b"big\n"), Some(&vec![0; 2_000_000]));
        assert_eq!(refusal.refused, Some(print));
        let text = refusal.to_string();
        assert!(text.contains("on out-3"), "{text}");
        assert!(text.contains("key big\\n and 2000000 bytes"), "{text}");
    }

    #[test]
    fn the_record_at_fault_goes_before_those_that_were_in_its_batch() {
        let deliveries = deliveries();
        let index = deliveries.index_of(&TopicPartition::new("out", 3));
        let other = KafkaError::MessageProduction(RDKafkaErrorCode::InvalidDifferentRecord);
        deliveries.refused(index, &other, &record("good", vec![1]));
        let bad = KafkaError::MessageProduction(RDKafkaErrorCode::InvalidTimestamp);
        deliveries.refused(index, &bad, &record("bad", vec![2]));
        let refusal = deliveries.check().expect_err("refused");
        assert_eq!(refusal.refused, Some(RecordPrint::of(Some(b"bad"), Some(&[2]))));
    }

    #[test]
    fn what_librdkafka_gave_up_on_is_no_longer_to_be_retried() {
        let deliveries = deliveries();
        let index = deliveries.index_of(&TopicPartition::new("out", 0));
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::NotEnoughReplicas);
        deliveries.refused(index, &error, &record("k", vec![]));
        assert_eq!(deliveries.check().expect_err("refused").class, ErrorClass::Abort);
    }

    #[test]
    fn an_acknowledgement_without_an_offset_does_not_pass_for_a_position() {
        let deliveries = deliveries();
        let index = deliveries.index_of(&TopicPartition::new("out", 0));
        deliveries.delivered_at(index, -1);
        assert_eq!(deliveries.check().expect_err("no offset").class, ErrorClass::Abort);
        assert!(deliveries.ends().is_empty());
    }
}
