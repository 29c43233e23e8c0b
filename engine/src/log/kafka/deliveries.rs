//! What the broker says about each record of the open transaction: the offset after the last one of
//! each partition, or the first refusal. Filled by whoever polls the producer. Knows no thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::classify;
use super::context::Voice;
use super::ffi::Report;
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
    sizes: Arc<Sizes>,
    open: Mutex<Open>,
}

/// The open transaction.
#[derive(Default)]
struct Open {
    /// Every partition this producer ever wrote to; a record carries its index.
    partitions: Vec<TopicPartition>,
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
        Self { voice, bell, starved: AtomicBool::new(false), sizes, open: Mutex::default() }
    }

    /// The client's own voice.
    pub(super) fn voice(&self) -> &Voice {
        &self.voice
    }

    /// Forgets the transaction before.
    pub(super) fn begin(&self) {
        let mut open = self.open();
        open.ends.fill(None);
        open.in_flight.values_mut().for_each(InFlight::clear);
        open.failure = None;
        open.refused = false;
    }

    /// The index that records for a new partition carry.
    pub(super) fn add_partition(&self, partition: &TopicPartition) -> usize {
        let mut open = self.open();
        open.partitions.push(partition.clone());
        open.ends.push(None);
        open.partitions.len() - 1
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

    /// The topics that this producer writes to, for messages.
    pub(super) fn topics(&self) -> String {
        let open = self.open();
        let topics: BTreeSet<&str> = open.partitions.iter().map(|p| &*p.topic).collect();
        topics.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what became of records.
    pub(super) fn settle<'a>(&self, reports: impl Iterator<Item = Report<'a>>) {
        let mut open = self.open();
        for report in reports {
            match report.error {
                None => open.delivered(report.tag, report.offset),
                // Only an abort purges; then nobody asks.
                Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {}
                Some(code) => open.refused(code, &report, &self.sizes),
            }
        }
        drop(open);
        if self.starved.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

impl Open {
    fn delivered(&mut self, index: usize, offset: i64) {
        if offset < 0 {
            // The broker knew the batch already and does not say where it lies.
            let error = LogError::new(
                ErrorClass::Abort,
                "deliver a record",
                "it was acknowledged without an offset",
            );
            self.failure.get_or_insert(error.on(&self.partitions[index]));
            return;
        }
        if let Some(in_flight) = self.in_flight.get_mut(&index) {
            in_flight.pop();
        }
        let end = &mut self.ends[index];
        *end = Some(end.map_or(offset + 1, |end| end.max(offset + 1)));
    }

    fn refused(&mut self, code: RDKafkaErrorCode, report: &Report<'_>, sizes: &Sizes) {
        let mut refusal = classify::from_code("deliver a record", code);
        refusal.place = self.partitions.get(report.tag).cloned();
        let mut alone = false;
        if let Some(in_flight) = self.in_flight.get_mut(&report.tag) {
            alone = in_flight.is_alone();
            in_flight.pop();
        }
        if refusal.class == ErrorClass::User {
            self.refused = true;
            name(&mut refusal, code, report, sizes, alone);
        } else if refusal.class == ErrorClass::Retry {
            // librdkafka has given up on it, so the transaction is incomplete.
            refusal.class = ErrorClass::Abort;
        }
        // Of a refused batch the records that are well in themselves are reported too.
        match &mut self.failure {
            Some(known)
                if known.class == ErrorClass::Abort && refusal.class == ErrorClass::User =>
            {
                *known = refusal;
            }
            Some(_) => {}
            none => *none = Some(refusal),
        }
    }
}

/// Says which record is refused, or that its batch is, which says nothing of one record.
fn name(
    refusal: &mut LogError,
    code: RDKafkaErrorCode,
    report: &Report<'_>,
    sizes: &Sizes,
    alone: bool,
) {
    if let Some(to) = refusal.place.as_ref().filter(|_| classify::is_of_a_batch(code) && !alone) {
        sizes.refused(&to.topic);
        refusal.class = ErrorClass::Abort;
        refusal.message = format!("a batch is too large, smaller ones follow ({code})");
        return;
    }
    let shown = report.key.map_or_else(|| "null".into(), |key| key.escape_ascii().to_string());
    let bytes = report.value.map_or(0, <[u8]>::len);
    refusal.message = format!("the record with key {shown} and {bytes} bytes: {}", refusal.message);
    refusal.refused = Some(RecordPrint::of(report.key, report.value));
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

    /// Reports that rdkafka's own layer takes, which it does when the client is dropped.
    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let (message, error) = match result {
            Ok(message) => (message, None),
            Err((error, message)) => (message, error.rdkafka_error_code()),
        };
        self.settle(std::iter::once(Report {
            tag: index,
            offset: message.offset(),
            error,
            key: message.key(),
            value: message.payload(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries() -> Deliveries {
        Deliveries::new(Voice::new("test"), Bell::new(), Arc::default())
    }

    fn report(tag: usize, offset: i64) -> Report<'static> {
        Report { tag, offset, error: None, key: None, value: None }
    }

    fn refusal<'a>(
        tag: usize,
        code: RDKafkaErrorCode,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Report<'a> {
        Report { tag, offset: -1, error: Some(code), key: Some(key), value: Some(value) }
    }

    fn settle<const N: usize>(deliveries: &Deliveries, reports: [Report<'_>; N]) {
        deliveries.settle(reports.into_iter());
    }

    #[test]
    fn ends_are_those_of_the_open_transaction_alone() {
        let deliveries = deliveries();
        let (a, b) = (TopicPartition::new("a", 0), TopicPartition::new("b", 1));
        let (of_a, of_b) = (deliveries.add_partition(&a), deliveries.add_partition(&b));
        settle(&deliveries, [report(of_a, 4), report(of_a, 3), report(of_b, 9)]);
        assert_eq!(deliveries.ends(), [(a, 5), (b.clone(), 10)]);
        deliveries.begin();
        settle(&deliveries, [report(of_b, 11)]);
        assert_eq!(deliveries.ends(), [(b, 12)]);
    }

    const TOO_LARGE: RDKafkaErrorCode = RDKafkaErrorCode::MessageSizeTooLarge;

    #[test]
    fn a_batch_that_is_too_large_is_sent_again_in_smaller_ones() {
        let deliveries = deliveries();
        let index = deliveries.add_partition(&TopicPartition::new("out", 3));
        settle(&deliveries, [refusal(index, TOO_LARGE, b"a", &[0; 9])]);
        let refusal = deliveries.check().expect_err("refused");
        assert_eq!((refusal.class, refusal.refused), (ErrorClass::Abort, None));
        assert_eq!(deliveries.sizes.limit("out"), Some(0));
        assert!(deliveries.refused_by_broker());
    }

    #[test]
    fn a_record_that_is_too_large_by_itself_is_the_users_and_named() {
        let deliveries = deliveries();
        let index = deliveries.add_partition(&TopicPartition::new("out", 3));
        assert!(deliveries.enter(index, 2_000_000, 0));
        assert!(!deliveries.enter(index, 1, 0), "nothing beside it");
        let value = vec![0; 2_000_000];
        settle(&deliveries, [refusal(index, TOO_LARGE, b"big\n", &value)]);
        let refusal = deliveries.check().expect_err("refused");
        assert_eq!(refusal.class, ErrorClass::User);
        assert_eq!(refusal.refused, Some(RecordPrint::of(Some(b"big\n"), Some(&value))));
        let text = refusal.to_string();
        assert!(text.contains("on out-3"), "{text}");
        assert!(text.contains("key big\\n and 2000000 bytes"), "{text}");
    }

    #[test]
    fn the_record_at_fault_goes_before_those_that_were_in_its_batch() {
        let deliveries = deliveries();
        let index = deliveries.add_partition(&TopicPartition::new("out", 3));
        let good = refusal(index, RDKafkaErrorCode::InvalidDifferentRecord, b"good", &[1]);
        let bad = refusal(index, RDKafkaErrorCode::InvalidTimestamp, b"bad", &[2]);
        settle(&deliveries, [good, bad]);
        let refusal = deliveries.check().expect_err("refused");
        assert_eq!(refusal.refused, Some(RecordPrint::of(Some(b"bad"), Some(&[2]))));
    }

    #[test]
    fn what_librdkafka_gave_up_on_is_no_longer_to_be_retried() {
        let deliveries = deliveries();
        let index = deliveries.add_partition(&TopicPartition::new("out", 0));
        settle(&deliveries, [refusal(index, RDKafkaErrorCode::NotEnoughReplicas, b"k", &[])]);
        assert_eq!(deliveries.check().expect_err("refused").class, ErrorClass::Abort);
    }

    #[test]
    fn what_an_abort_purges_is_no_refusal() {
        let deliveries = deliveries();
        let index = deliveries.add_partition(&TopicPartition::new("out", 0));
        settle(&deliveries, [refusal(index, RDKafkaErrorCode::PurgeQueue, b"k", &[])]);
        deliveries.check().expect("no refusal");
        assert!(deliveries.ends().is_empty());
    }

    #[test]
    fn an_acknowledgement_without_an_offset_does_not_pass_for_a_position() {
        let deliveries = deliveries();
        let index = deliveries.add_partition(&TopicPartition::new("out", 0));
        settle(&deliveries, [report(index, -1)]);
        assert_eq!(deliveries.check().expect_err("no offset").class, ErrorClass::Abort);
        assert!(deliveries.ends().is_empty());
    }
}
