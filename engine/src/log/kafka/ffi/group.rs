//! Members of consumer groups: who a consumer is, and offsets committed in a transaction in the name
//! of any member. Must not know where the names come from.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

/// A failed transactional call, with librdkafka's three flags.
#[derive(Debug, Clone)]
pub(in crate::log::kafka) struct TransactionError {
    pub(in crate::log::kafka) code: RDKafkaErrorCode,
    pub(in crate::log::kafka) message: String,
    pub(in crate::log::kafka) is_fatal: bool,
    pub(in crate::log::kafka) requires_abort: bool,
}

/// Who commits offsets: the metadata of a group's member, made by hand.
#[derive(Debug)]
pub(in crate::log::kafka) struct GroupMetadata(NonNull<c::rd_kafka_consumer_group_metadata_t>);

impl GroupMetadata {
    /// The metadata of this member. `None` if a name has a zero byte or librdkafka has no memory.
    pub(in crate::log::kafka) fn new(
        group: &str,
        generation: i32,
        member: &str,
        instance: Option<&str>,
    ) -> Option<Self> {
        let (group, member) = (CString::new(group).ok()?, CString::new(member).ok()?);
        let instance = instance.map(CString::new).transpose().ok()?;
        let instance = instance.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
        // SAFETY: all strings live until the call has returned; librdkafka copies them, and takes
        // null for "no instance id".
        let metadata = unsafe {
            c::rd_kafka_consumer_group_metadata_new_with_genid(
                group.as_ptr(),
                generation,
                member.as_ptr(),
                instance,
            )
        };
        NonNull::new(metadata).map(Self)
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, owned by this value, destroyed once.
        unsafe { c::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Member id and generation (member epoch) of a consumer at this moment; the id is empty and the
/// generation -1 while it is in no group.
pub(in crate::log::kafka) fn member<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
) -> Option<(String, i32)> {
    // SAFETY: the client lives as long as `consumer` is borrowed.
    let metadata = unsafe { c::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
    let metadata = GroupMetadata(NonNull::new(metadata)?);
    // SAFETY: `metadata` is not null and lives until the end of this function, and with it the
    // string, which is copied.
    let (id, generation) = unsafe {
        let id = c::rd_kafka_consumer_group_metadata_member_id(metadata.0.as_ptr());
        let generation = c::rd_kafka_consumer_group_metadata_generation_id(metadata.0.as_ptr());
        if id.is_null() {
            return None;
        }
        (CStr::from_ptr(id).to_string_lossy().into_owned(), generation)
    };
    Some((id, generation))
}

/// Adds offsets to the open transaction in the name of a group's member. Blocks, no longer than
/// `within` unless librdkafka hangs (its issue 5456).
///
/// # Errors
/// As librdkafka says.
pub(in crate::log::kafka) fn send_offsets<C: ProducerContext>(
    producer: &BaseProducer<C>,
    offsets: &TopicPartitionList,
    metadata: &GroupMetadata,
    within: Duration,
) -> Result<(), TransactionError> {
    let within = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all three live as long as they are borrowed here; librdkafka keeps none of them.
    let error = unsafe {
        c::rd_kafka_send_offsets_to_transaction(
            producer.client().native_ptr(),
            offsets.ptr(),
            metadata.0.as_ptr(),
            within,
        )
    };
    match NonNull::new(error) {
        None => Ok(()),
        Some(error) => Err(take_error(error)),
    }
}

fn take_error(error: NonNull<c::rd_kafka_error_t>) -> TransactionError {
    let error = error.as_ptr();
    // SAFETY: librdkafka gave the error to us; it is read, its string copied, and destroyed once.
    unsafe {
        let taken = TransactionError {
            code: c::rd_kafka_error_code(error).into(),
            message: CStr::from_ptr(c::rd_kafka_error_string(error)).to_string_lossy().into_owned(),
            is_fatal: c::rd_kafka_error_is_fatal(error) != 0,
            requires_abort: c::rd_kafka_error_txn_requires_abort(error) != 0,
        };
        c::rd_kafka_error_destroy(error);
        taken
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::Offset;
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[test]
    fn a_consumer_in_no_group_has_no_member_id() {
        let consumer: BaseConsumer =
            ClientConfig::new().set("group.id", "g").create().expect("a consumer");
        assert_eq!(member(&consumer), Some((String::new(), -1)));
    }

    #[test]
    fn offsets_are_added_in_the_name_of_any_member_and_errors_keep_their_flags() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("t", 1, 1).expect("a topic");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("transactional.id", "t")
            .create()
            .expect("a producer");
        let soon = Duration::from_secs(20);
        let metadata = GroupMetadata::new("g", 3, "member-1", Some("instance-1")).expect("text");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("t", 0, Offset::Offset(1)).expect("an offset");
        let refused =
            send_offsets(&producer, &offsets, &metadata, soon).expect_err("no transaction");
        assert_eq!(refused.code, RDKafkaErrorCode::State, "{refused:?}");
        assert!(!refused.message.is_empty());
        producer.init_transactions(soon).expect("initialised");
        producer.begin_transaction().expect("begun");
        send_offsets(&producer, &offsets, &metadata, soon).expect("added");
        producer.abort_transaction(soon).expect("aborted");
        assert!(GroupMetadata::new("g\0", 3, "m", None).is_none());
    }
}
